namespace Z1Coder.Trainer.Serve;

/// <summary>A request that is refused, in the shape that OpenAI's clients read.</summary>
public sealed class ServeException : Exception
{
    /// <summary>A refusal.</summary>
    /// <param name="status">of HTTP</param>
    /// <param name="message">one sentence</param>
    /// <param name="param">the field at fault</param>
    /// <param name="code">for programs</param>
    public ServeException(int status, string message, string? param = null, string? code = null)
        : base(message) => (Status, Param, Code) = (status, param, code);

    /// <summary>Status of HTTP.</summary>
    public int Status { get; }

    /// <summary>The field at fault, where it is one.</summary>
    public string? Param { get; }

    /// <summary>A word for programs, where there is one.</summary>
    public string? Code { get; }

    /// <summary>OpenAI's class of the error.</summary>
    public string Type => Status switch
    {
        401 => "authentication_error",
        429 => "rate_limit_error",
        503 => "service_unavailable",
        504 => "timeout",
        >= 500 => "server_error",
        _ => "invalid_request_error",
    };
}
