namespace Z1Coder.Trainer.Evaluate;

/// <summary>Samples of one task, and how many passed.</summary>
/// <param name="TaskId">The task.</param>
/// <param name="Kind">Its group, or null.</param>
/// <param name="Samples">Samples graded.</param>
/// <param name="Passed">Samples that passed.</param>
public sealed record TaskScore(string TaskId, string? Kind, int Samples, int Passed);
