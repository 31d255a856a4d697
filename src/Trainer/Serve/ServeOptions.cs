namespace Z1Coder.Trainer.Serve;

/// <summary>Where a server listens and what it refuses.</summary>
public sealed record ServeOptions
{
    /// <summary>An address of this machine, or localhost.</summary>
    public string Host { get; init; } = "127.0.0.1";

    /// <summary>TCP port; 0 takes any free one.</summary>
    public int Port { get; init; }

    /// <summary>The key that callers of /v1 must send as "Authorization: Bearer"; null asks for none.</summary>
    public string? Key { get; init; }

    /// <summary>Largest body, bytes.</summary>
    public long MaxBodyBytes { get; init; } = 8 << 20;

    /// <summary>Most sequences accepted and not ended; beyond it, 429.</summary>
    public int MaxSequences { get; init; } = 256;

    /// <summary>Most requests under /v1 in flight; beyond it, 429.</summary>
    public int MaxRequests { get; init; } = 512;

    /// <summary>Most choices (n) per prompt.</summary>
    public int MaxChoices { get; init; } = 16;

    /// <summary>Seconds until a request is given up with 504.</summary>
    public double TimeoutSeconds { get; init; } = 600;

    /// <summary>Seconds that sequences under way get to finish when the server stops.</summary>
    public double GraceSeconds { get; init; } = 30;
}
