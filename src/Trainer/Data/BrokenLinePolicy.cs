namespace Z1Coder.Trainer.Data;

/// <summary>What to do with a line that cannot be read.</summary>
public enum BrokenLinePolicy
{
    /// <summary>Stop at the first, naming file and line.</summary>
    Stop,

    /// <summary>Count it, name the first few in the report, and read on.</summary>
    Skip,
}
