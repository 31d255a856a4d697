namespace Z1Coder.Trainer.Curation.Filters;

/// <summary>Words that a text shares with a benchmark.</summary>
/// <param name="Task">The benchmark task, by its id.</param>
/// <param name="Field">The field of the task that they stand in.</param>
/// <param name="Words">The words as the text has them.</param>
public sealed record BenchmarkMatch(string Task, string Field, string Words);
