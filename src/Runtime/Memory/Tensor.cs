using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>A view of row-major elements in an <see cref="Arena"/>: arena + byte offset + shape. Copying it copies no data.</summary>
/// <typeparam name="T">float, <see cref="BFloat16"/>, int, …</typeparam>
public readonly unsafe struct Tensor<T>
    where T : unmanaged
{
    private readonly Arena? _arena;
    private readonly long _offset;

    internal Tensor(Arena arena, long offset, Shape shape)
    {
        _arena = arena;
        _offset = offset;
        Shape = shape;
    }

    /// <summary>Extents, last axis contiguous.</summary>
    public Shape Shape { get; }

    /// <summary>Elements in all.</summary>
    public long Count => Shape.Count;

    /// <summary>Bytes of the elements.</summary>
    public long Bytes => Shape.Count * sizeof(T);

    /// <summary>Whether this is no view at all: the default value stands for an absent optional tensor.</summary>
    public bool IsEmpty => _arena is null;

    /// <summary>The device whose memory holds it; null for host memory and for the empty tensor.</summary>
    public CudaDevice? Device => _arena?.Device;

    /// <summary>All elements.</summary>
    /// <exception cref="OverflowException">more than 2^31 - 1 elements: take <see cref="Rows"/> first</exception>
    /// <exception cref="InvalidOperationException">the elements are in device memory: use <see cref="TensorCopy"/></exception>
    public Span<T> Span => new(HostPointer, checked((int)Shape.Count));

    /// <summary>The first element, for kernels that index with native integers. Valid while the arena lives.</summary>
    /// <exception cref="InvalidOperationException">the elements are in device memory</exception>
    public ref T Origin => ref Unsafe.AsRef<T>(HostPointer);

    /// <summary>The role of the arena, for messages.</summary>
    internal string ArenaName => _arena?.Name ?? "none";

    /// <summary>The address of the first element in host memory.</summary>
    internal T* HostPointer => (T*)((_arena ?? throw new InvalidOperationException("the tensor is empty")).HostBase + _offset);

    /// <summary>The address of the first element for native libraries: of the device when <see cref="Device"/> is set.</summary>
    internal T* Pointer => (T*)((_arena ?? throw new InvalidOperationException("the tensor is empty")).Base + _offset);

    /// <summary>One row of the last axis; rows are counted over all other axes.</summary>
    public Span<T> Row(int row)
    {
        if ((uint)row >= (uint)Shape.Rows)
        {
            throw new ArgumentOutOfRangeException(nameof(row), row, $"the shape {Shape} has {Shape.Rows} rows");
        }

        return new(HostPointer + (long)row * Shape.Columns, Shape.Columns);
    }

    /// <summary>this = <paramref name="source"/>, wherever this is: for loading and initialising. On a device it is queued on the stream that made
    /// the arena, and <paramref name="source"/> may be reused at once.</summary>
    /// <exception cref="InvalidOperationException">the arena was made without a stream</exception>
    public void CopyFrom(ReadOnlySpan<T> source)
    {
        TensorCopy.CheckCount(source.Length, Count);
        if (Device is null)
        {
            source.CopyTo(Span);
        }
        else
        {
            StreamOfArena().Upload(source, this);
        }
    }

    /// <summary><paramref name="destination"/> = this, wherever this is, after all work queued on the stream that made the arena.</summary>
    /// <exception cref="InvalidOperationException">the arena was made without a stream</exception>
    public void CopyTo(Span<T> destination)
    {
        TensorCopy.CheckCount(destination.Length, Count);
        if (Device is null)
        {
            Span.CopyTo(destination);
        }
        else
        {
            StreamOfArena().Download(this, destination);
        }
    }

    /// <summary>The view of <paramref name="count"/> consecutive entries of the first axis, from <paramref name="start"/>.</summary>
    public Tensor<T> Rows(int start, int count)
    {
        var first = Shape[0];
        if (start < 0 || count < 0 || start > first - count)
        {
            throw new ArgumentOutOfRangeException(nameof(start), $"rows {start}..{start + (long)count} of a tensor of shape {Shape}");
        }

        var perEntry = first == 0 ? 0 : Shape.Count / first;
        return new(Arena, _offset + start * perEntry * sizeof(T), WithFirst(count));
    }

    /// <summary>The same elements under another shape of equal count.</summary>
    public Tensor<T> Reshape(params ReadOnlySpan<int> extents)
    {
        var shape = new Shape(extents);
        return shape.Count == Shape.Count
            ? new(Arena, _offset, shape)
            : throw new ArgumentException($"cannot view {Shape} as {shape}: {Shape.Count} and {shape.Count} elements");
    }

    /// <summary>The first elements of the same memory under a smaller or equal shape: a buffer sized for the largest batch serves all.</summary>
    public Tensor<T> Prefix(params ReadOnlySpan<int> extents)
    {
        var shape = new Shape(extents);
        return shape.Count <= Shape.Count
            ? new(Arena, _offset, shape)
            : throw new ArgumentException($"a prefix of shape {shape} does not fit into {Shape}");
    }

    /// <summary>The same bytes as elements of another type of equal size; how generic code reaches code for one type.</summary>
    internal Tensor<TOther> As<TOther>()
        where TOther : unmanaged
    {
        if (sizeof(TOther) != sizeof(T))
        {
            throw new InvalidOperationException($"{typeof(T).Name} and {typeof(TOther).Name} differ in size");
        }

        return _arena is null ? default : new(_arena, _offset, Shape);
    }

    /// <summary>Sets every byte of host memory, any length.</summary>
    internal void FillBytes(byte value) => NativeMemory.Fill(HostPointer, (nuint)Bytes, value);

    private CudaStream StreamOfArena() => Arena.Stream
        ?? throw new InvalidOperationException($"arena '{ArenaName}' was made without a stream; use TensorCopy, or ComputeStream.CreateArena");

    private Arena Arena => _arena ?? throw new InvalidOperationException("the tensor is empty");

    private Shape WithFirst(int first) => Shape.Rank switch
    {
        1 => new(first),
        2 => new(first, Shape[1]),
        3 => new(first, Shape[1], Shape[2]),
        _ => new(first, Shape[1], Shape[2], Shape[3]),
    };
}
