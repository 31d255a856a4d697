using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// A safetensors file open for reading. The header is hostile until checked; tensors are read on demand, in pieces, so that memory holds
/// only what the caller provides. Reads are positional: several threads may read at once.
/// </summary>
public sealed class SafetensorsFile : IDisposable
{
    private const int Chunk = 1 << 20, LongestRead = 1 << 30, LengthBytes = 8;

    private readonly SafeFileHandle _handle;
    private readonly Dictionary<string, SafetensorInfo> _byName;

    private SafetensorsFile(string path, SafeFileHandle handle, List<SafetensorInfo> tensors, Dictionary<string, string> metadata)
    {
        FilePath = path;
        _handle = handle;
        Tensors = tensors;
        Metadata = metadata;
        _byName = tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
    }

    /// <summary>As given to <see cref="Open"/>.</summary>
    public string FilePath { get; }

    /// <summary>Every tensor, in the order of the bytes.</summary>
    public IReadOnlyList<SafetensorInfo> Tensors { get; }

    /// <summary>The entries of __metadata__; empty when there are none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Opens a file and checks its whole header.</summary>
    /// <exception cref="InvalidInputException">the file cannot be read, or its header lies; one sentence</exception>
    public static SafetensorsFile Open(string path)
    {
        SafeFileHandle? handle = null;
        try
        {
            handle = File.OpenHandle(path);
            var bytes = RandomAccess.GetLength(handle);
            Span<byte> prefix = stackalloc byte[LengthBytes];
            var header = new byte[SafetensorsHeader.Length(prefix[..ReadUpTo(handle, prefix, 0)], bytes, path)];
            if (ReadUpTo(handle, header, LengthBytes) != header.Length)
            {
                throw new InvalidInputException($"{path} ends inside its header");
            }

            var (tensors, metadata) = SafetensorsHeader.Parse(header, bytes, path);
            var file = new SafetensorsFile(path, handle, tensors, metadata);
            handle = null;
            return file;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            throw new InvalidInputException($"cannot read {path}: {e.Message}", e);
        }
        finally
        {
            handle?.Dispose();
        }
    }

    /// <summary>Whether the file holds a tensor of this name.</summary>
    public bool Contains(string name) => _byName.ContainsKey(name);

    /// <summary>What the header says of a tensor.</summary>
    /// <exception cref="InvalidInputException">there is none of this name; the message lists the nearest</exception>
    public SafetensorInfo this[string name] => _byName.TryGetValue(name, out var info)
        ? info
        : throw new InvalidInputException($"{FilePath} holds no tensor {Quoted.Name(name)}{NearestNames.Phrase(name, _byName.Keys)}");

    /// <summary>A whole tensor as float: F32 as it is, BF16 and F16 exactly, F64 rounded. The destination has exactly its elements.</summary>
    public void Read(string name, Span<float> destination) => Read(Whole(name, destination.Length), 0, destination);

    /// <summary>The elements from <paramref name="start"/> on, in row-major order, as many as the destination holds.</summary>
    public void Read(string name, long start, Span<float> destination) => Read(this[name], start, destination);

    /// <summary>A whole tensor as bfloat16: BF16 as it is, F32, F16 and F64 rounded to nearest even (F64 by way of float).</summary>
    public void Read(string name, Span<BFloat16> destination) => Read(Whole(name, destination.Length), 0, destination);

    /// <summary>The elements from <paramref name="start"/> on, in row-major order, as many as the destination holds.</summary>
    public void Read(string name, long start, Span<BFloat16> destination) => Read(this[name], start, destination);

    /// <summary>The bytes of a whole tensor, as stored.</summary>
    public void ReadBytes(string name, Span<byte> destination)
    {
        var info = this[name];
        ReadBytes(name, 0, info.Bytes == destination.Length ? destination : throw Length(info, destination.Length, info.Bytes, "bytes"));
    }

    /// <summary>The bytes from <paramref name="start"/> on, as stored.</summary>
    public void ReadBytes(string name, long start, Span<byte> destination)
    {
        var info = this[name];
        Within(info, start, destination.Length, info.Bytes);
        Fill(info, info.Offset + start, destination);
    }

    /// <summary>A whole tensor of F64, F32, BF16 or F16, exactly.</summary>
    public void ReadDoubles(string name, Span<double> destination)
    {
        var info = Whole(name, destination.Length);
        if (info.Dtype == SafetensorDtype.F64)
        {
            FillElements(info, 0, destination);
            return;
        }

        var floats = new float[Math.Min(destination.Length, Chunk / sizeof(float))];
        for (var done = 0; done < destination.Length;)
        {
            var piece = floats.AsSpan(0, Math.Min(floats.Length, destination.Length - done));
            Read(info, done, piece);
            foreach (var value in piece)
            {
                destination[done++] = value;
            }
        }
    }

    /// <summary>As <see cref="ReadDoubles(string, Span{double})"/>, in a new array.</summary>
    public double[] ReadDoubles(string name)
    {
        var values = new double[ArrayLength(name)];
        ReadDoubles(name, values);
        return values;
    }

    /// <summary>As <see cref="Read(string, Span{float})"/>, in a new array.</summary>
    public float[] ReadFloats(string name)
    {
        var values = new float[ArrayLength(name)];
        Read(name, values);
        return values;
    }

    /// <summary>A whole tensor of I64, I32, I16, I8, U8 or BOOL.</summary>
    public void ReadInts(string name, Span<long> destination)
    {
        var info = Whole(name, destination.Length);
        var size = info.Dtype.Size();
        Span<byte> buffer = stackalloc byte[4096];
        for (var done = 0; done < destination.Length;)
        {
            var count = Math.Min(buffer.Length / size, destination.Length - done);
            var piece = buffer[..(count * size)];
            Fill(info, info.Offset + ((long)done * size), piece);
            for (var i = 0; i < count; i++)
            {
                destination[done++] = info.Dtype switch
                {
                    SafetensorDtype.I64 => MemoryMarshal.Cast<byte, long>(piece)[i],
                    SafetensorDtype.I32 => MemoryMarshal.Cast<byte, int>(piece)[i],
                    SafetensorDtype.I16 => MemoryMarshal.Cast<byte, short>(piece)[i],
                    SafetensorDtype.I8 => (sbyte)piece[i],
                    SafetensorDtype.U8 or SafetensorDtype.Bool => piece[i],
                    _ => throw NotA(info, "whole numbers (I64, I32, I16, I8, U8 or BOOL)"),
                };
            }
        }
    }

    /// <summary>A whole tensor of I64, I32, I16, I8, U8 or BOOL, in a new array; each value must fit 32 bits.</summary>
    public int[] ReadInts(string name)
    {
        var wide = new long[ArrayLength(name)];
        ReadInts(name, wide);
        return Array.ConvertAll(wide, v => v is >= int.MinValue and <= int.MaxValue
            ? (int)v
            : throw new InvalidInputException($"{FilePath}: tensor {Quoted.Name(name)} holds {v}, which does not fit 32 bits"));
    }

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();

    private void Read(SafetensorInfo info, long start, Span<float> destination)
    {
        Within(info, start, destination.Length, info.Count);
        switch (info.Dtype)
        {
            case SafetensorDtype.F32:
                FillElements(info, start, destination);
                break;
            case SafetensorDtype.BF16:
                Convert<BFloat16, float>(info, start, destination, Widen);
                break;
            case SafetensorDtype.F16:
                Convert<Half, float>(info, start, destination, Widen);
                break;
            case SafetensorDtype.F64:
                Convert<double, float>(info, start, destination, Narrow);
                break;
            default:
                throw NotA(info, "floats (F32, BF16, F16 or F64)");
        }
    }

    private void Read(SafetensorInfo info, long start, Span<BFloat16> destination)
    {
        Within(info, start, destination.Length, info.Count);
        switch (info.Dtype)
        {
            case SafetensorDtype.BF16:
                FillElements(info, start, destination);
                break;
            case SafetensorDtype.F32:
                Convert<float, BFloat16>(info, start, destination, SafetensorsWriter.Round);
                break;
            case SafetensorDtype.F16:
                Convert<Half, BFloat16>(info, start, destination, Round);
                break;
            case SafetensorDtype.F64:
                Convert<double, BFloat16>(info, start, destination, Round);
                break;
            default:
                throw NotA(info, "floats (F32, BF16, F16 or F64)");
        }
    }

    private delegate void Conversion<TFrom, TTo>(ReadOnlySpan<TFrom> from, Span<TTo> to);

    private void Convert<TFrom, TTo>(SafetensorInfo info, long start, Span<TTo> destination, Conversion<TFrom, TTo> conversion)
        where TFrom : unmanaged
    {
        var size = info.Dtype.Size();
        var buffer = new TFrom[Math.Min(Chunk / size, destination.Length)];
        for (var done = 0; done < destination.Length;)
        {
            var piece = buffer.AsSpan(0, Math.Min(buffer.Length, destination.Length - done));
            Fill(info, info.Offset + ((start + done) * size), MemoryMarshal.AsBytes(piece));
            conversion(piece, destination.Slice(done, piece.Length));
            done += piece.Length;
        }
    }

    internal static void Widen(ReadOnlySpan<BFloat16> from, Span<float> to)
    {
        var i = 0;
        for (; i <= from.Length - Lanes.Count; i += Lanes.Count)
        {
            Lanes.Store(ref MemoryMarshal.GetReference(to), (nuint)i, Lanes.Load(in MemoryMarshal.GetReference(from), (nuint)i));
        }

        for (; i < from.Length; i++)
        {
            to[i] = from[i];
        }
    }

    private static void Widen(ReadOnlySpan<Half> from, Span<float> to)
    {
        for (var i = 0; i < from.Length; i++)
        {
            to[i] = (float)from[i];
        }
    }

    private static void Narrow(ReadOnlySpan<double> from, Span<float> to)
    {
        for (var i = 0; i < from.Length; i++)
        {
            to[i] = (float)from[i];
        }
    }

    private static void Round(ReadOnlySpan<Half> from, Span<BFloat16> to)
    {
        for (var i = 0; i < from.Length; i++)
        {
            to[i] = (BFloat16)(float)from[i];
        }
    }

    private static void Round(ReadOnlySpan<double> from, Span<BFloat16> to)
    {
        for (var i = 0; i < from.Length; i++)
        {
            to[i] = (BFloat16)(float)from[i];
        }
    }

    private void FillElements<T>(SafetensorInfo info, long start, Span<T> destination)
        where T : unmanaged
    {
        var size = info.Dtype.Size();
        for (var done = 0; done < destination.Length;)
        {
            // a span counts its bytes in 32 bits
            var piece = destination.Slice(done, Math.Min(LongestRead / size, destination.Length - done));
            Fill(info, info.Offset + ((start + done) * size), MemoryMarshal.AsBytes(piece));
            done += piece.Length;
        }
    }

    private void Fill(SafetensorInfo info, long position, Span<byte> destination)
    {
        int read;
        try
        {
            read = ReadUpTo(_handle, destination, position);
        }
        catch (IOException e)
        {
            throw new InvalidInputException($"cannot read tensor {Quoted.Name(info.Name)} of {FilePath}: {e.Message}", e);
        }

        if (read != destination.Length)
        {
            throw new InvalidInputException($"{FilePath} became shorter while it was read: tensor {Quoted.Name(info.Name)} ends too early");
        }
    }

    private static int ReadUpTo(SafeFileHandle handle, Span<byte> destination, long position)
    {
        var done = 0;
        while (done < destination.Length)
        {
            var read = RandomAccess.Read(handle, destination[done..], position + done);
            if (read == 0)
            {
                break;
            }

            done += read;
        }

        return done;
    }

    private SafetensorInfo Whole(string name, int elements)
    {
        var info = this[name];
        return info.Count == elements ? info : throw Length(info, elements, info.Count, "elements");
    }

    private int ArrayLength(string name)
    {
        var info = this[name];
        return info.Count <= Array.MaxLength
            ? (int)info.Count
            : throw new InvalidInputException($"{FilePath}: tensor {Quoted.Name(name)} has {info.Count} elements, too many for one array");
    }

    private void Within(SafetensorInfo info, long start, long length, long all)
    {
        if (start < 0 || start > all - length)
        {
            throw new ArgumentOutOfRangeException(
                nameof(start), $"{start}..{start + length} of tensor {Quoted.Name(info.Name)} of {FilePath}, which has {all}");
        }
    }

    private InvalidInputException Length(SafetensorInfo info, long given, long held, string unit) =>
        new($"{FilePath}: tensor {Quoted.Name(info.Name)} of shape {Quoted.Shape(info.Shape)} has {held} {unit}; {given} were asked for");

    private InvalidInputException NotA(SafetensorInfo info, string wanted) =>
        new($"{FilePath}: tensor {Quoted.Name(info.Name)} is {info.Dtype.HeaderName()}; {wanted} were asked for");
}
