namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>One try failed in a way that another try may not.</summary>
internal sealed class TransientTeacherException : Exception
{
    public TransientTeacherException(string message, TimeSpan? retryAfter = null, Exception? inner = null)
        : base(message, inner) => RetryAfter = retryAfter;

    /// <summary>How long the server asked to be left alone.</summary>
    public TimeSpan? RetryAfter { get; }
}
