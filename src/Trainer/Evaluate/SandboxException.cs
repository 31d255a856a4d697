namespace Z1Coder.Trainer.Evaluate;

/// <summary>Programs cannot be confined here, or the confinement itself failed: never a verdict about the program.</summary>
public sealed class SandboxException : Exception
{
    /// <summary>An error whose message is shown to the user as it stands.</summary>
    public SandboxException(string message)
        : base(message)
    {
    }

    /// <summary>The same, keeping what was caught.</summary>
    public SandboxException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
