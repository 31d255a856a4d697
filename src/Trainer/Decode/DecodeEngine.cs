namespace Z1Coder.Trainer.Decode;

/// <summary>
/// Completes many sequences at once: a sequence that ends makes room for the next one (continuous batching; Yu et al. 2022, Orca). What a
/// sequence gets, to the bit, depends on its own prompt, options and seed, not on what else is under way.
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

    /// <summary>Completes every request, in their order.</summary>
    /// <param name="requests">their own updates are passed on</param>
    /// <param name="finished">told the index and the completion as each one ends</param>
    /// <param name="stop">ends early by throwing OperationCanceledException</param>
    public Completion[] Generate(IReadOnlyList<DecodeRequest> requests, Action<int, Completion>? finished = null, CancellationToken stop = default)
    {
        var completions = new Completion[requests.Count];
        for (var i = 0; i < requests.Count; i++)
        {
            var (index, updated) = (i, requests[i].Updated);
            Submit(requests[i] with
            {
                Cancellation = stop.CanBeCanceled && !requests[i].Cancellation.CanBeCanceled ? stop : requests[i].Cancellation,
                Updated = update =>
                {
                    updated?.Invoke(update);
                    if (update.Completion is { } completion)
                    {
                        completions[index] = completion;
                        if (completion.Finish != FinishReason.Cancelled)
                        {
                            finished?.Invoke(index, completion);
                        }
                    }
                },
            });
        }

        while (Step())
        {
        }

        stop.ThrowIfCancellationRequested();
        return completions;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees cache and buffers.</summary>
    protected abstract void Dispose(bool disposing);
}
