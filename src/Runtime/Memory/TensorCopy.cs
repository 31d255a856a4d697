namespace Z1Coder.Runtime;

/// <summary>Moves data between the host and the tensors of any stream: span copies for a <see cref="CpuStream"/>, device copies for a
/// <see cref="CudaStream"/>.</summary>
public static class TensorCopy
{
    /// <summary>to = from. On a device it is queued, and <paramref name="from"/> may be reused at once.</summary>
    public static void Upload<T>(ComputeStream stream, ReadOnlySpan<T> from, Tensor<T> to)
        where T : unmanaged
    {
        if (stream is CudaStream cuda)
        {
            cuda.Upload(from, to);
        }
        else
        {
            CheckCount(from.Length, to.Count);
            from.CopyTo(to.Span);
        }
    }

    /// <summary>to = from, after all work queued before; returns when <paramref name="to"/> holds the data.</summary>
    public static void Download<T>(ComputeStream stream, Tensor<T> from, Span<T> to)
        where T : unmanaged
    {
        if (stream is CudaStream cuda)
        {
            cuda.Download(from, to);
        }
        else
        {
            CheckCount(to.Length, from.Count);
            from.Span.CopyTo(to);
        }
    }

    /// <summary>to = from, both of the stream's device.</summary>
    public static unsafe void Copy<T>(ComputeStream stream, Tensor<T> from, Tensor<T> to)
        where T : unmanaged
    {
        if (stream is CudaStream cuda)
        {
            cuda.Copy(from, to);
        }
        else
        {
            CheckCount(from.Count, to.Count);
            Buffer.MemoryCopy(from.HostPointer, to.HostPointer, to.Bytes, from.Bytes);
        }
    }

    /// <summary>to = from, from the stream's memory to an arena of <see cref="ComputeStream.CreateHostArena"/>. On a device it is queued:
    /// <paramref name="to"/> holds the data after <see cref="ComputeStream.Synchronize"/>.</summary>
    public static void ToHost<T>(ComputeStream stream, Tensor<T> from, Tensor<T> to)
        where T : unmanaged
    {
        if (stream is CudaStream cuda)
        {
            cuda.CopyToHost(from, to);
        }
        else
        {
            Copy(stream, from, to);
        }
    }

    /// <summary>to = from, from an arena of <see cref="ComputeStream.CreateHostArena"/> to the stream's memory. On a device it is queued:
    /// <paramref name="from"/> belongs to it until <see cref="ComputeStream.Synchronize"/>.</summary>
    public static void ToDevice<T>(ComputeStream stream, Tensor<T> from, Tensor<T> to)
        where T : unmanaged
    {
        if (stream is CudaStream cuda)
        {
            cuda.CopyFromHost(from, to);
        }
        else
        {
            Copy(stream, from, to);
        }
    }

    /// <summary>Sets every byte.</summary>
    public static void Fill<T>(ComputeStream stream, Tensor<T> to, byte value)
        where T : unmanaged
    {
        if (stream is CudaStream cuda)
        {
            cuda.Fill(to, value);
        }
        else
        {
            to.FillBytes(value);
        }
    }

    internal static void CheckCount(long given, long expected)
    {
        if (given != expected)
        {
            throw new ArgumentException($"cannot copy {given} elements to or from a tensor of {expected}");
        }
    }
}
