using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

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

    /// <summary>Loads the weights of a Hugging Face directory and makes an engine for them.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="directory">config.json and safetensors of any Qwen2 architecture</param>
    /// <param name="floats">whether the model is held in fp32; otherwise bfloat16</param>
    /// <param name="tokenizer">for text and stop strings; null gives tokens only</param>
    /// <param name="options">sizes</param>
    public static DecodeEngine Open(ComputeStream stream, string directory, bool floats, Tokenizer? tokenizer, DecodeEngineOptions options) =>
        floats ? Open<float>(stream, directory, tokenizer, options) : Open<BFloat16>(stream, directory, tokenizer, options);

    /// <summary>Puts a sequence into the queue.</summary>
    /// <exception cref="InvalidInputException">The prompt is empty, holds an id that the model does not know, or leaves no room for a new token.</exception>
    public abstract void Submit(DecodeRequest request);

    /// <summary>One pass of the model over what is under way, after admitting what fits; false when there is nothing to do.</summary>
    public abstract bool Step();

    /// <summary>Completes every prompt greedily.</summary>
    /// <param name="prompts">token ids, at least one each</param>
    /// <param name="options">limits and ends of all</param>
    /// <param name="finished">told the index and the completion as each one ends</param>
    /// <param name="stop">ends early by throwing OperationCanceledException; nothing is left under way</param>
    /// <exception cref="InvalidInputException">A prompt is empty or leaves no room for an answer.</exception>
    public Completion[] Generate(
        IReadOnlyList<int[]> prompts, GenerateOptions options, Action<int, Completion>? finished = null, CancellationToken stop = default) =>
        Generate([.. prompts.Select(p => new DecodeRequest { Prompt = p, Options = options })], finished, stop);

    /// <summary>Completes every request, in their order. Nothing else may step the engine meanwhile.</summary>
    /// <param name="requests">their own updates are passed on</param>
    /// <param name="finished">told the index and the completion as each one ends</param>
    /// <exception cref="InvalidInputException">A request is none; those before it were cancelled.</exception>
    /// <param name="stop">ends early by throwing OperationCanceledException; nothing is left under way. A request with a cancellation of its own ends by
    /// that alone.</param>
    public Completion[] Generate(IReadOnlyList<DecodeRequest> requests, Action<int, Completion>? finished = null, CancellationToken stop = default)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var completions = new Completion[requests.Count];
        for (var i = 0; i < requests.Count; i++)
        {
            var (index, updated) = (i, requests[i].Updated);
            try
            {
                Submit(requests[i] with
                {
                    Cancellation = requests[i].Cancellation.CanBeCanceled ? requests[i].Cancellation : end.Token,
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
            catch (InvalidInputException e)
            {
                end.Cancel();
                while (Step())
                {
                }

                throw new InvalidInputException($"prompt {index}: {e.Message}");
            }
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

    private static PagedEngine<T> Open<T>(ComputeStream stream, string directory, Tokenizer? tokenizer, DecodeEngineOptions options)
        where T : unmanaged
    {
        var weights = HfWeights.Open<T>(directory, stream);
        return new PagedEngine<T>(stream, new Qwen2<T>(weights), tokenizer, options, weights);
    }

    /// <summary>Frees cache and buffers.</summary>
    protected abstract void Dispose(bool disposing);
}
