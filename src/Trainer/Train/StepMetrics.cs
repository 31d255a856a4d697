namespace Z1Coder.Trainer.Train;

/// <summary>What one optimizer step did, counted over all ranks: the same on each.</summary>
/// <param name="Step">1 for the first</param>
/// <param name="Epoch">fraction of epochs done after it</param>
/// <param name="Loss">mean over the step's loss tokens under the recipe's rule, nats</param>
/// <param name="GradientNorm">global L2 norm before clipping</param>
/// <param name="LearningRate">the rate used</param>
/// <param name="Samples">samples in the step</param>
/// <param name="Tokens">packed tokens, prompt included</param>
/// <param name="LossTokens">tokens with a loss</param>
/// <param name="MicroBatches">forward-backward passes</param>
/// <param name="Seconds">wall clock of this rank</param>
/// <param name="Flops">operations that all ranks together had to do (see <see cref="TrainFlops"/>); MFU divides by the ranks' peaks</param>
/// <param name="Fault">why the step was not applied; null when it was</param>
public readonly record struct StepMetrics(
    long Step, double Epoch, double Loss, double GradientNorm, double LearningRate, int Samples, int Tokens, int LossTokens, int MicroBatches,
    double Seconds, double Flops, string? Fault)
{
    /// <summary>Packed tokens a second.</summary>
    public double TokensPerSecond => Tokens / Seconds;

    /// <summary>Share of tokens that carry a loss.</summary>
    public double UsefulShare => Tokens == 0 ? 0 : LossTokens / (double)Tokens;
}
