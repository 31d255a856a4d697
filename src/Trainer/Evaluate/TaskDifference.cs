namespace Z1Coder.Trainer.Evaluate;

/// <summary>A task in two runs.</summary>
/// <param name="TaskId">The task.</param>
/// <param name="A">Fraction of samples that passed in the first run.</param>
/// <param name="B">The same in the second.</param>
/// <param name="OutcomeA">How the first run's first failing sample ended, or "Passed".</param>
/// <param name="OutcomeB">The same in the second.</param>
public sealed record TaskDifference(string TaskId, double A, double B, string OutcomeA, string OutcomeB);
