namespace Z1Coder.Trainer.Decode;

/// <summary>
/// Completes many sequences at once: a sequence that ends makes room for the next one (continuous batching; Yu et al. 2022, Orca).
/// </summary>
/// <remarks>Any thread may submit; one thread steps.</remarks>
public abstract class DecodeEngine : IDisposable
{
    /// <summary>Longest sequence, prompt and new tokens.</summary>
    public abstract int Capacity { get; }

    /// <summary>A snapshot.</summary>
    public abstract DecodeStats Stats { get; }

    /// <summary>Puts a sequence into the queue.</summary>
    /// <exception cref="Data.InvalidInputException">The prompt is empty, holds an id that the model does not know, or leaves no room for a new token.</exception>
    public abstract void Submit(DecodeRequest request);

    /// <summary>One pass of the model over what is under way, after admitting what fits; false when there is nothing to do.</summary>
    public abstract bool Step();

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees cache and buffers.</summary>
    protected abstract void Dispose(bool disposing);
}
