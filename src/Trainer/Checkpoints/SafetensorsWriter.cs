using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.Encodings.Web;
using System.Text.Json;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// Writes a safetensors file to a stream: all tensors are declared first, then their elements follow in the declared order, in pieces of
/// any size. Floats and bfloat16 are converted to the declared dtype. The stream stays open; its owner makes it durable.
/// </summary>
/// <remarks>Tensors lie in the declared order without gaps: declare wider element types first where alignment matters to a reader.</remarks>
public sealed class SafetensorsWriter
{
    private const int Chunk = 1 << 20, LongestWrite = 1 << 30;

    private readonly Stream _output;
    private readonly IReadOnlyList<SafetensorInfo> _tensors;
    private byte[] _buffer = [];
    private int _current;
    private long _written;

    /// <summary>Writes the header at once.</summary>
    public SafetensorsWriter(Stream output, IReadOnlyList<SafetensorInfo> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(tensors);
        _output = output;
        _tensors = tensors;
        WriteHeader(metadata);
    }

    /// <summary>The next elements of a tensor declared F32, or BF16 (rounded to nearest even).</summary>
    public void Write(string name, ReadOnlySpan<float> values)
    {
        switch (Expect(name, values.Length).Dtype)
        {
            case SafetensorDtype.F32:
                Raw(values);
                break;
            case SafetensorDtype.BF16:
                for (var done = 0; done < values.Length;)
                {
                    var piece = MemoryMarshal.Cast<byte, BFloat16>(Buffer());
                    piece = piece[..Math.Min(piece.Length, values.Length - done)];
                    Round(values.Slice(done, piece.Length), piece);
                    Raw<BFloat16>(piece);
                    done += piece.Length;
                }

                break;
            default:
                throw Mismatch("float");
        }

        Advance();
    }

    /// <summary>The next elements of a tensor declared BF16, or F32 (exact).</summary>
    public void Write(string name, ReadOnlySpan<BFloat16> values)
    {
        switch (Expect(name, values.Length).Dtype)
        {
            case SafetensorDtype.BF16:
                Raw(values);
                break;
            case SafetensorDtype.F32:
                for (var done = 0; done < values.Length;)
                {
                    var piece = MemoryMarshal.Cast<byte, float>(Buffer());
                    piece = piece[..Math.Min(piece.Length, values.Length - done)];
                    SafetensorsFile.Widen(values.Slice(done, piece.Length), piece);
                    Raw<float>(piece);
                    done += piece.Length;
                }

                break;
            default:
                throw Mismatch("bfloat16");
        }

        Advance();
    }

    /// <summary>The next elements of a tensor declared F64.</summary>
    public void Write(string name, ReadOnlySpan<double> values) => WriteAs(name, values, SafetensorDtype.F64);

    /// <summary>The next elements of a tensor declared I32.</summary>
    public void Write(string name, ReadOnlySpan<int> values) => WriteAs(name, values, SafetensorDtype.I32);

    /// <summary>The next elements of a tensor declared I64.</summary>
    public void Write(string name, ReadOnlySpan<long> values) => WriteAs(name, values, SafetensorDtype.I64);

    /// <summary>A view of F32 or BF16, of any size: it is passed on in pieces.</summary>
    public void Write<T>(string name, Tensor<T> values)
        where T : unmanaged
    {
        HostPieces.Read(values, (_, piece) =>
        {
            if (typeof(T) == typeof(float))
            {
                Write(name, MemoryMarshal.Cast<T, float>(piece));
            }
            else if (typeof(T) == typeof(BFloat16))
            {
                Write(name, MemoryMarshal.Cast<T, BFloat16>(piece));
            }
            else if (typeof(T) == typeof(int))
            {
                Write(name, MemoryMarshal.Cast<T, int>(piece));
            }
            else
            {
                throw new ArgumentException($"tensor '{name}': elements of type {typeof(T).Name} cannot be written", nameof(values));
            }
        });
    }

    /// <summary>The next bytes of a tensor of any dtype; whole elements.</summary>
    public void WriteBytes(string name, ReadOnlySpan<byte> bytes)
    {
        var info = Current(name);
        if (bytes.Length % info.Dtype.Size() != 0)
        {
            throw new ArgumentException($"tensor '{name}': {bytes.Length} bytes are no whole number of {info.Dtype.HeaderName()}", nameof(bytes));
        }

        Expect(name, bytes.Length / info.Dtype.Size());
        Raw(bytes);
        Advance();
    }

    /// <summary>Ends the file.</summary>
    /// <exception cref="InvalidOperationException">a declared tensor is not, or not wholly, written</exception>
    public void Complete()
    {
        while (_current < _tensors.Count && _tensors[_current].Bytes == 0)
        {
            _current++;
        }

        if (_current < _tensors.Count)
        {
            var tensor = _tensors[_current];
            throw new InvalidOperationException($"tensor '{tensor.Name}' is declared, but {_written} of its {tensor.Bytes} bytes are written");
        }
    }

    internal static void Round(ReadOnlySpan<float> from, Span<BFloat16> to)
    {
        var i = 0;
        for (; i <= from.Length - Lanes.Count; i += Lanes.Count)
        {
            Lanes.Store(ref MemoryMarshal.GetReference(to), (nuint)i, Lanes.Load(in MemoryMarshal.GetReference(from), (nuint)i));
        }

        for (; i < from.Length; i++)
        {
            to[i] = (BFloat16)from[i];
        }
    }

    private void WriteHeader(IReadOnlyDictionary<string, string>? metadata)
    {
        var names = new HashSet<string>(StringComparer.Ordinal) { "__metadata__" };
        using var json = new MemoryStream();
        json.Write(stackalloc byte[sizeof(ulong)]);
        using (var writer = new Utf8JsonWriter(json, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            writer.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                writer.WriteStartObject("__metadata__");
                foreach (var (key, value) in metadata.OrderBy(m => m.Key, StringComparer.Ordinal))
                {
                    writer.WriteString(key, value);
                }

                writer.WriteEndObject();
            }

            long next = 0;
            foreach (var tensor in _tensors)
            {
                if (!names.Add(tensor.Name))
                {
                    throw new ArgumentException($"tensor '{tensor.Name}' is declared twice, or its name is reserved");
                }

                writer.WriteStartObject(tensor.Name);
                writer.WriteString("dtype", tensor.Dtype.HeaderName());
                WriteNumbers(writer, "shape", tensor.Shape);
                WriteNumbers(writer, "data_offsets", [next, next = checked(next + tensor.Bytes)]);
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
        }

        while (json.Length % sizeof(ulong) != 0)
        {
            json.WriteByte((byte)' ');
        }

        var length = json.Length - sizeof(ulong);
        if (length > SafetensorsHeader.LongestHeader)
        {
            throw new ArgumentException($"the header is {length} bytes long; safetensors allows at most {SafetensorsHeader.LongestHeader}");
        }

        BinaryPrimitives.WriteUInt64LittleEndian(json.GetBuffer(), (ulong)length);
        _output.Write(json.GetBuffer().AsSpan(0, (int)json.Length));
    }

    private static void WriteNumbers(Utf8JsonWriter writer, string key, IReadOnlyList<long> numbers)
    {
        writer.WriteStartArray(key);
        foreach (var number in numbers)
        {
            writer.WriteNumberValue(number);
        }

        writer.WriteEndArray();
    }

    private void WriteAs<T>(string name, ReadOnlySpan<T> values, SafetensorDtype dtype)
        where T : unmanaged
    {
        if (Expect(name, values.Length).Dtype != dtype)
        {
            throw Mismatch(dtype.HeaderName());
        }

        Raw(values);
        Advance();
    }

    private void Raw<T>(ReadOnlySpan<T> values)
        where T : unmanaged
    {
        var size = Unsafe.SizeOf<T>();
        for (var done = 0; done < values.Length;)
        {
            // a span counts its bytes in 32 bits
            var piece = MemoryMarshal.AsBytes(values.Slice(done, Math.Min(LongestWrite / size, values.Length - done)));
            _output.Write(piece);
            _written += piece.Length;
            done += piece.Length / size;
        }
    }

    private SafetensorInfo Current(string name)
    {
        while (_current < _tensors.Count && _tensors[_current].Bytes == 0 && _tensors[_current].Name != name)
        {
            _current++;
        }

        var next = _current < _tensors.Count ? $"'{_tensors[_current].Name}'" : "the end of the file";
        return next == $"'{name}'" ? _tensors[_current] : throw new InvalidOperationException($"tensor '{name}' is written out of order; next is {next}");
    }

    private SafetensorInfo Expect(string name, long elements)
    {
        var info = Current(name);
        var left = (info.Bytes - _written) / info.Dtype.Size();
        return elements <= left ? info : throw new ArgumentException($"tensor '{name}' has room for {left} more elements; {elements} were given");
    }

    private void Advance()
    {
        if (_written == _tensors[_current].Bytes)
        {
            _current++;
            _written = 0;
        }
    }

    private Span<byte> Buffer() => _buffer.Length > 0 ? _buffer : _buffer = new byte[Chunk];

    private ArgumentException Mismatch(string given) =>
        new($"tensor '{_tensors[_current].Name}' is declared {_tensors[_current].Dtype.HeaderName()}; {given} was given");
}
