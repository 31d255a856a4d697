namespace Z1Coder.Trainer.Data;

/// <summary>Input from outside is wrong; the message is one sentence that says what, where, and what would be right.</summary>
public sealed class InvalidInputException : Exception
{
    /// <summary>An error whose message is shown to the user as it stands.</summary>
    public InvalidInputException(string message)
        : base(message)
    {
    }

    /// <summary>The same, keeping what was caught.</summary>
    public InvalidInputException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
