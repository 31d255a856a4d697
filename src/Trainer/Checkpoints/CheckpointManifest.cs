using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// manifest.json: what a checkpoint holds, written last, with a digest over its own fields. The same form, without the other ranks'
/// files, is what each rank leaves for rank 0 (part-00001.json).
/// </summary>
internal sealed record CheckpointManifest(CheckpointInfo Info, IReadOnlyList<CheckpointFile> Files)
{
    /// <summary>The file name in a published checkpoint.</summary>
    public const string FileName = "manifest.json";

    private const int Format = 1, Sha256HexLength = 64;
    private const long LongestFile = 64 << 20;

    /// <summary>The file name of a rank's part.</summary>
    public static string PartName(int rank) => $"part-{rank:D5}.json";

    /// <summary>Letters, digits, '.', '-' and '_', not beginning with a dot, and none of the names above: no way out of the directory.</summary>
    public static bool IsFileName(string name) =>
        name.Length is > 0 and <= 200 && name[0] != '.' && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_')
        && name != FileName && !(name.StartsWith("part-", StringComparison.Ordinal) && name.EndsWith(".json", StringComparison.Ordinal));

    /// <summary>The bytes of the file.</summary>
    public byte[] ToJson()
    {
        using var bytes = new MemoryStream();
        using (var writer = new Utf8JsonWriter(bytes, new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartObject();
            writer.WriteNumber("format", Format);
            writer.WriteNumber("step", Info.Step);
            writer.WriteNumber("world_size", Info.WorldSize);
            writer.WriteString("model", Info.ModelFingerprint);
            writer.WriteStartArray("files");
            foreach (var file in Files)
            {
                writer.WriteStartObject();
                writer.WriteString("name", file.Name);
                writer.WriteNumber("bytes", file.Bytes);
                writer.WriteString("sha256", file.Sha256);
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
            writer.WriteString("digest", Digest());
            writer.WriteEndObject();
        }

        bytes.WriteByte((byte)'\n');
        return bytes.ToArray();
    }

    /// <summary>Reads and checks a manifest, not the files it lists.</summary>
    /// <exception cref="InvalidInputException">missing, damaged or of another format</exception>
    public static CheckpointManifest Load(ICheckpointFiles files, string path)
    {
        byte[] bytes;
        try
        {
            var length = files.Length(path);
            if (length is < 0 or > LongestFile)
            {
                throw new InvalidInputException(length < 0 ? $"{path} is missing" : $"{path} is {length} bytes long, too long for a manifest");
            }

            bytes = new byte[length];
            using var stream = files.OpenRead(path);
            stream.ReadExactly(bytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"cannot read {path}: {e.Message}", e);
        }

        try
        {
            using var document = JsonDocument.Parse(bytes, new JsonDocumentOptions { AllowDuplicateProperties = false, MaxDepth = 8 });
            return Parse(document.RootElement, path);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new InvalidInputException($"{path} is damaged: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    private static CheckpointManifest Parse(JsonElement root, string path)
    {
        var format = root.GetProperty("format").GetInt32();
        if (format != Format)
        {
            throw new InvalidInputException($"{path} has format {format}; this program reads format {Format}");
        }

        var info = new CheckpointInfo(
            root.GetProperty("step").GetInt64(), root.GetProperty("world_size").GetInt32(), root.GetProperty("model").GetString() ?? "");
        var files = new List<CheckpointFile>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var entry in root.GetProperty("files").EnumerateArray())
        {
            var file = new CheckpointFile(
                entry.GetProperty("name").GetString() ?? "", entry.GetProperty("bytes").GetInt64(), entry.GetProperty("sha256").GetString() ?? "");
            if (!IsFileName(file.Name) || !names.Add(file.Name) || file.Bytes < 0 || file.Sha256.Length != Sha256HexLength)
            {
                throw new InvalidInputException($"{path} is damaged: its entry {Quoted.Name(file.Name)} is not a file of this directory");
            }

            files.Add(file);
        }

        var manifest = new CheckpointManifest(info, files);
        return info.Step >= 0 && info.WorldSize > 0 && root.GetProperty("digest").GetString() == manifest.Digest()
            ? manifest
            : throw new InvalidInputException($"{path} is damaged: its fields do not match its digest");
    }

    private string Digest()
    {
        var text = new StringBuilder();
        text.Append(Format).Append('\n').Append(Info.Step).Append('\n').Append(Info.WorldSize).Append('\n');
        text.Append(Info.ModelFingerprint.Length).Append(' ').Append(Info.ModelFingerprint).Append('\n');
        foreach (var file in Files)
        {
            text.Append(file.Name).Append(' ').Append(file.Bytes).Append(' ').Append(file.Sha256).Append('\n');
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }
}
