namespace Z1Coder.Trainer.Decode;

/// <summary>One sequence to complete.</summary>
public sealed record DecodeRequest
{
    /// <summary>Token ids, at least one.</summary>
    public required int[] Prompt { get; init; }

    /// <summary>Limits and ends.</summary>
    public required GenerateOptions Options { get; init; }

    /// <summary>How tokens are drawn.</summary>
    public Sampling Sampling { get; init; } = Sampling.Greedy;

    /// <summary>Told of new text and, last, of the completion; on the thread that steps the engine. It must neither block nor throw.</summary>
    public Action<DecodeUpdate>? Updated { get; init; }

    /// <summary>Ends the sequence at the next step; the last update then says <see cref="FinishReason.Cancelled"/>.</summary>
    public CancellationToken Cancellation { get; init; }
}
