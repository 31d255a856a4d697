using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Unicode;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// The header of a safetensors file, believed only after every claim is checked: 8 bytes little-endian length, that many bytes of JSON
/// beginning with '{', each tensor with dtype, shape and data_offsets; the byte ranges tile the rest of the file without hole or overlap.
/// </summary>
internal static class SafetensorsHeader
{
    /// <summary>The format's own limit.</summary>
    public const long LongestHeader = 100_000_000;

    private const int LengthBytes = 8, MostAxes = 64, DeepestJson = 8;

    /// <summary>The length prefix against the size of the file; the JSON follows it.</summary>
    public static int Length(ReadOnlySpan<byte> prefix, long fileBytes, string path)
    {
        if (prefix.Length < LengthBytes)
        {
            throw Wrong(path, $"is {fileBytes} bytes long, too short for a safetensors file (at least 8 bytes of header length and '{{}}')");
        }

        var length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (length > LongestHeader)
        {
            throw Wrong(path, $"claims a header of {length} bytes, and safetensors allows at most {LongestHeader}: it is damaged, or no safetensors file");
        }

        if ((long)length > fileBytes - LengthBytes)
        {
            throw Wrong(path, $"claims a header of {length} bytes, but only {fileBytes - LengthBytes} bytes follow the length");
        }

        return length >= 2 ? (int)length : throw Wrong(path, $"claims a header of {length} bytes; the smallest header is '{{}}'");
    }

    /// <summary>The tensors in file order, and the metadata.</summary>
    public static (List<SafetensorInfo> Tensors, Dictionary<string, string> Metadata) Parse(ReadOnlySpan<byte> json, long fileBytes, string path)
    {
        if (json[0] != (byte)'{')
        {
            throw Wrong(path, "has a header that does not begin with '{', so this is no safetensors file");
        }

        if (!Utf8.IsValid(json))
        {
            throw Wrong(path, "has a header that is not valid UTF-8");
        }

        try
        {
            return ParseObject(json, LengthBytes + json.Length, fileBytes, path);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // InvalidOperationException: an escape that is half a surrogate pair
            throw new InvalidInputException($"{path} has a header that is not valid JSON ({FirstLine(e.Message)})", e);
        }
    }

    private static (List<SafetensorInfo> Tensors, Dictionary<string, string> Metadata) ParseObject(
        ReadOnlySpan<byte> json, long dataStart, long fileBytes, string path)
    {
        var tensors = new List<SafetensorInfo>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = DeepestJson });
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var name = reader.GetString()!;
            if (!names.Add(name))
            {
                throw Wrong(path, $"names {Quoted.Name(name)} twice in its header");
            }

            reader.Read();
            if (name == "__metadata__")
            {
                ReadMetadata(ref reader, metadata, path);
            }
            else
            {
                tensors.Add(ReadTensor(ref reader, name, dataStart, fileBytes, path));
            }
        }

        if (reader.Read())
        {
            throw Wrong(path, "has more than one JSON value in its header");
        }

        Tile(tensors, dataStart, fileBytes, path);
        return (tensors, metadata);
    }

    private static void ReadMetadata(ref Utf8JsonReader reader, Dictionary<string, string> metadata, string path)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Wrong(path, "has a __metadata__ that is not an object of strings");
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var key = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.String)
            {
                throw Wrong(path, $"has a __metadata__ whose {Quoted.Name(key)} is not a string");
            }

            if (!metadata.TryAdd(key, reader.GetString()!))
            {
                throw Wrong(path, $"has a __metadata__ that names {Quoted.Name(key)} twice");
            }
        }
    }

    private static SafetensorInfo ReadTensor(ref Utf8JsonReader reader, string name, long dataStart, long fileBytes, string path)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Wrong(path, name, "is not an object with dtype, shape and data_offsets");
        }

        SafetensorDtype? dtype = null;
        List<long>? shape = null, offsets = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var key = reader.GetString()!;
            reader.Read();
            var again = false;
            switch (key)
            {
                case "dtype":
                    again = dtype is not null;
                    dtype = ReadDtype(ref reader, name, path);
                    break;
                case "shape":
                    again = shape is not null;
                    shape = ReadNumbers(ref reader, MostAxes, name, key, path);
                    break;
                case "data_offsets":
                    again = offsets is not null;
                    offsets = ReadNumbers(ref reader, 2, name, key, path);
                    break;
                default:
                    reader.Skip();
                    break;
            }

            if (again)
            {
                throw Wrong(path, name, $"has the key {key} twice");
            }
        }

        if (dtype is not { } type || shape is null || offsets is not { Count: 2 })
        {
            var missing = dtype is null ? "dtype" : shape is null ? "shape" : "data_offsets of two numbers";
            throw Wrong(path, name, $"has no {missing}");
        }

        return Checked(name, type, shape, offsets[0], offsets[1], dataStart, fileBytes, path);
    }

    private static SafetensorDtype ReadDtype(ref Utf8JsonReader reader, string name, string path)
    {
        var text = reader.TokenType == JsonTokenType.String ? reader.GetString()! : reader.TokenType.ToString();
        return SafetensorDtypes.TryParse(text, out var dtype)
            ? dtype
            : throw Wrong(path, name, $"has the dtype {Quoted.Name(text)}; known are {SafetensorDtypes.Known}");
    }

    private static List<long> ReadNumbers(ref Utf8JsonReader reader, int most, string name, string key, string path)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw Wrong(path, name, $"has a {key} that is not an array");
        }

        var numbers = new List<long>(2);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out var number) || number < 0)
            {
                throw Wrong(path, name, $"has a {key} with an entry that is not a whole number from 0 to {long.MaxValue}");
            }

            numbers.Add(number);
            if (numbers.Count > most)
            {
                throw Wrong(path, name, $"has a {key} of more than {most} entries");
            }
        }

        return numbers;
    }

    private static SafetensorInfo Checked(
        string name, SafetensorDtype dtype, List<long> shape, long begin, long end, long dataStart, long fileBytes, string path)
    {
        if (begin > end || end > fileBytes - dataStart)
        {
            throw Wrong(path, name, $"has data_offsets [{begin}, {end}], but the file holds {fileBytes - dataStart} bytes of data");
        }

        long bytes;
        try
        {
            bytes = new SafetensorInfo(name, dtype, shape).Bytes;
        }
        catch (OverflowException e)
        {
            throw new InvalidInputException($"{path}: tensor {Quoted.Name(name)} has a shape {Quoted.Shape(shape)} too large for any file", e);
        }

        return bytes == end - begin
            ? new SafetensorInfo(name, dtype, shape, dataStart + begin)
            : throw Wrong(
                path, name, $"is {dtype.HeaderName()} {Quoted.Shape(shape)}, {bytes} bytes, but its data_offsets [{begin}, {end}] span {end - begin}");
    }

    private static void Tile(List<SafetensorInfo> tensors, long dataStart, long fileBytes, string path)
    {
        tensors.Sort((a, b) => a.Offset != b.Offset ? a.Offset.CompareTo(b.Offset)
            : a.Bytes != b.Bytes ? a.Bytes.CompareTo(b.Bytes) : string.CompareOrdinal(a.Name, b.Name));
        var next = dataStart;
        foreach (var tensor in tensors)
        {
            if (tensor.Offset != next)
            {
                var what = tensor.Offset < next ? "overlaps the tensor before it" : "leaves a hole before it";
                throw Wrong(path, tensor.Name, $"begins at byte {tensor.Offset - dataStart} of the data and {what}, which ends at {next - dataStart}");
            }

            next += tensor.Bytes;
        }

        if (next != fileBytes)
        {
            throw Wrong(path, $"has {fileBytes - next} bytes after its last tensor");
        }
    }

    private static string FirstLine(string message)
    {
        var end = message.AsSpan().IndexOfAny('\r', '\n');
        return end < 0 ? message : message[..end];
    }

    private static InvalidInputException Wrong(string path, string what) => new($"{path} {what}");

    private static InvalidInputException Wrong(string path, string tensor, string what) => new($"{path}: tensor {Quoted.Name(tensor)} {what}");
}
