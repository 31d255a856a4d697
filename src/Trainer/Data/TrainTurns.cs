namespace Z1Coder.Trainer.Data;

/// <summary>Which assistant turns of a conversation are trained on.</summary>
public enum TrainTurns
{
    /// <summary>The last one; the turns before it are context.</summary>
    Last,

    /// <summary>Every one. The chat template must render a turn the same way wherever it stands.</summary>
    All,
}
