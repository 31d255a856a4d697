using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>Where the teacher is and how hard it may be asked. Nothing here changes what is asked.</summary>
public sealed record TeacherOptions
{
    /// <summary>The base of an OpenAI-compatible server, such as http://localhost:8000/v1.</summary>
    public required string BaseUrl { get; init; }

    /// <summary>Environment variable that holds the key; the key itself is never an argument, so that it is in no process list and no
    /// log.</summary>
    public string KeyVariable { get; init; } = "OPENAI_API_KEY";

    /// <summary>The key, or null to send none.</summary>
    public string? Key { get; init; }

    /// <summary>Requests in flight at once.</summary>
    public int Concurrency { get; init; } = 16;

    /// <summary>Seconds until one request is given up (and tried again).</summary>
    public double TimeoutSeconds { get; init; } = 600;

    /// <summary>How often a request is tried again after 429, 5xx, a time-out, a dropped connection or an answer that cannot be
    /// read.</summary>
    public int Retries { get; init; } = 8;

    /// <summary>Seconds before the first retry; each further one waits twice as long, with jitter.</summary>
    public double BackOffSeconds { get; init; } = 1;

    /// <summary>The longest wait between two tries, seconds. A server's Retry-After may ask for more, up to ten minutes.</summary>
    public double LongestBackOffSeconds { get; init; } = 60;

    /// <summary>Requests per minute; 0 sets no limit.</summary>
    public double RequestsPerMinute { get; init; }

    /// <summary>Tokens per minute, prompt and answer together; 0 sets no limit.</summary>
    public double TokensPerMinute { get; init; }

    /// <summary>The address of an endpoint.</summary>
    public Uri Endpoint(TeacherApi api)
    {
        var path = api == TeacherApi.Chat ? "/chat/completions" : "/completions";
        return Uri.TryCreate(BaseUrl.TrimEnd('/') + path, UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https"
            ? uri
            : throw new InvalidInputException($"--teacher {BaseUrl}: not an address; write for example http://localhost:8000/v1");
    }
}
