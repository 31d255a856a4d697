namespace Z1Coder.Trainer.Evaluate;

/// <summary>One answer of a model to one task.</summary>
/// <param name="TaskId">The task it answers.</param>
/// <param name="Code">Code, no longer chat text.</param>
/// <param name="Mode">How code and prompt go together.</param>
public sealed record Sample(string TaskId, string Code, CompletionMode Mode = CompletionMode.Auto)
{
    /// <summary>True when the model was not asked because the prompt does not fit into its context: the sample fails without a
    /// run.</summary>
    public bool IsUnanswered { get; init; }
}
