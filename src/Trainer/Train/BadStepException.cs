namespace Z1Coder.Trainer.Train;

/// <summary>A step whose loss or gradient norm is not finite or spikes, where the recipe says to stop. Weights and moments are those of the
/// step before.</summary>
public sealed class BadStepException(StepMetrics metrics, int[] samples)
    : Exception($"step {metrics.Step}: {metrics.Fault}; guard.on_bad_step says stop; its samples: {string.Join(", ", samples.Take(32))}"
        + $"{(samples.Length > 32 ? $" and {samples.Length - 32} more" : "")}")
{
    /// <summary>The step.</summary>
    public StepMetrics Metrics { get; } = metrics;

    /// <summary>Data-set indices of its samples.</summary>
    public IReadOnlyList<int> Samples { get; } = samples;
}
