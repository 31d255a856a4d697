namespace Z1Coder.Trainer.Evaluate;

/// <summary>A task that this machine cannot run.</summary>
/// <param name="TaskId">The task.</param>
/// <param name="Needs">Python modules that it imports and that are not installed.</param>
public sealed record NotRunnableTask(string TaskId, IReadOnlyList<string> Needs);
