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

    /// <summary>True when the server refused this very request (400, 413, 422): it is up, and may well answer the next one.</summary>
    public bool IsRefusal { get; init; }

    /// <summary>True when it refused because prompt and answer do not fit into the model's context.</summary>
    public bool IsTooLong { get; init; }
}
