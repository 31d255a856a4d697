namespace Z1Coder.Runtime;

/// <summary>A collective operation failed: a rank died, called another operation, or did not come in time. The message is one sentence that
/// names rank, operation and sequence number; the process cannot go on with its group.</summary>
public sealed class CollectiveException : Exception
{
    /// <summary>With the sentence.</summary>
    public CollectiveException(string message)
        : base(message)
    {
    }

    /// <summary>With the sentence and what lies behind it.</summary>
    public CollectiveException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
