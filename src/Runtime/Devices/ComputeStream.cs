namespace Z1Coder.Runtime;

/// <summary>Where an operation runs, and in which order. Kernels look at the stream's type and nothing else to choose their code.</summary>
public abstract class ComputeStream : IDisposable
{
    /// <summary>The device, as a person would name it.</summary>
    public abstract string DeviceName { get; }

    /// <summary>Waits until everything enqueued so far has finished; reports its first error.</summary>
    public abstract void Synchronize();

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases what the stream holds.</summary>
    protected abstract void Dispose(bool disposing);
}
