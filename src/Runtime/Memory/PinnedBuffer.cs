namespace Z1Coder.Runtime;

/// <summary>Host memory that the device copies from and to without staging, so that a copy does not stop the caller.</summary>
/// <typeparam name="T">element</typeparam>
public sealed unsafe class PinnedBuffer<T> : IDisposable
    where T : unmanaged
{
    private readonly CudaHandle _handle;

    /// <summary>Room for <paramref name="count"/> elements, zeroed.</summary>
    /// <exception cref="InsufficientMemoryException">the driver refuses</exception>
    public PinnedBuffer(CudaDevice device, int count)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        Device = device;
        Count = count;
        device.Context.MakeCurrent();
        nint address;
        var bytes = (nuint)count * (nuint)sizeof(T);
        var result = Cuda.cuMemHostAlloc(&address, bytes, 0);
        if (result == Cuda.OutOfMemory)
        {
            throw new InsufficientMemoryException($"cannot pin {bytes:N0} bytes of host memory");
        }

        Cuda.Check(result, "cuMemHostAlloc(&address, bytes, 0)");
        _handle = new(device.Context, address, CudaHandleKind.Pinned);
        Span.Clear();
    }

    /// <summary>The device that copies.</summary>
    public CudaDevice Device { get; }

    /// <summary>Elements.</summary>
    public int Count { get; }

    /// <summary>The elements. While a copy is queued they belong to it.</summary>
    public Span<T> Span => new((void*)_handle.Value, Count);

    internal T* Pointer => (T*)_handle.Value;

    /// <summary>Frees the memory. No copy may be queued.</summary>
    public void Dispose() => _handle.Dispose();
}
