using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Train;

/// <summary>A <see cref="Generator{T}"/> as an engine: greedy, with the same limits for every sequence; one step completes all that waits.</summary>
/// <typeparam name="T">storage of the model</typeparam>
internal sealed class GeneratorEngine<T>(Generator<T> generator, int capacity) : DecodeEngine
    where T : unmanaged
{
    private readonly List<DecodeRequest> _waiting = [];
    private long _promptTokens, _newTokens;

    /// <inheritdoc/>
    public override int Capacity => capacity;

    /// <inheritdoc/>
    public override DecodeStats Stats => new(_waiting.Count, 0, 0, 0, _promptTokens, 0, _newTokens, 0);

    /// <inheritdoc/>
    public override void Submit(DecodeRequest request)
    {
        if (request.Sampling != Sampling.Greedy || (_waiting.Count > 0 && request.Options != _waiting[0].Options))
        {
            throw new NotSupportedException("a generator decodes greedily and with the same limits for all");
        }

        _promptTokens += request.Prompt.Length;
        _waiting.Add(request);
    }

    /// <inheritdoc/>
    public override bool Step()
    {
        DecodeRequest[] requests = [.. _waiting];
        _waiting.Clear();
        if (requests.Length > 0)
        {
            generator.Generate([.. requests.Select(r => r.Prompt)], requests[0].Options, Tell, requests[0].Cancellation);
        }

        return false;

        void Tell(int index, Completion completion)
        {
            _newTokens += completion.Tokens.Length;
            requests[index].Updated?.Invoke(new DecodeUpdate(completion.Text, completion.Tokens.Length, completion));
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            generator.Dispose();
        }
    }
}
