using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Train;

/// <summary>
/// Floating-point operations that a training step must do, for MFU: no recompute counted, causal attention counted once per visible pair
/// (packed batches by Σ len², so a packed batch of short samples is not flattered), and the LM head only on rows with a loss token.
/// </summary>
public static class TrainFlops
{
    /// <summary>Forward plus backward, in flops: 6 per matrix element and token, 6 · L · N · H per visible (query, key) pair doubled to len².</summary>
    /// <param name="config">the model</param>
    /// <param name="tokens">packed tokens</param>
    /// <param name="lossTokens">rows that reach the LM head</param>
    /// <param name="sumOfSquaredLengths">Σ len² over the samples</param>
    public static double Of(Qwen2Config config, long tokens, long lossTokens, long sumOfSquaredLengths)
    {
        double d = config.HiddenSize, f = config.IntermediateSize, h = config.HeadDim;
        double heads = config.NumAttentionHeads, kvHeads = config.NumKeyValueHeads;
        var layer = (d * (heads + (2 * kvHeads)) * h) + (heads * h * d) + (3 * d * f);
        return (6.0 * config.NumHiddenLayers * layer * tokens)
            + (6.0 * config.VocabSize * d * lossTokens)
            + (6.0 * config.NumHiddenLayers * heads * h * sumOfSquaredLengths);
    }
}
