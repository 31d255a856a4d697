namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>One item got no answer, after all retries or because the server refused this request; other items may do better.</summary>
public sealed class TeacherException : Exception
{
    /// <summary>An error whose message is one sentence for the user.</summary>
    public TeacherException(string message)
        : base(message)
    {
    }

    /// <summary>The same, keeping what was caught.</summary>
    public TeacherException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
