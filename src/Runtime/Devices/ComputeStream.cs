namespace Z1Coder.Runtime;

/// <summary>Where an operation runs, and in which order. Kernels look at the stream's type and nothing else to choose their code.</summary>
public abstract class ComputeStream : IDisposable
{
    private readonly List<IDisposable> _owned = [];

    /// <summary>The device, as a person would name it.</summary>
    public abstract string DeviceName { get; }

    /// <summary>Waits until everything enqueued so far has finished; reports its first error.</summary>
    public abstract void Synchronize();

    /// <summary>An arena whose memory the kernels of this stream can use: host memory for a <see cref="CpuStream"/>, device memory for a
    /// <see cref="CudaStream"/>.</summary>
    public abstract Arena CreateArena(string name);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        ReleaseOwned();
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases what the stream holds.</summary>
    protected abstract void Dispose(bool disposing);

    /// <summary>Disposes <paramref name="resource"/> with the stream, when its work has finished.</summary>
    internal void Own(IDisposable resource) => _owned.Add(resource);

    /// <summary>Disposes what <see cref="Own"/> was given.</summary>
    internal void ReleaseOwned()
    {
        _owned.ForEach(o => o.Dispose());
        _owned.Clear();
    }
}
