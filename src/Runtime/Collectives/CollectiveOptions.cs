namespace Z1Coder.Runtime;

/// <summary>How long ranks wait for each other and how much is remembered. All ranks of a job use the same values.</summary>
public sealed record CollectiveOptions
{
    /// <summary>An operation under way for longer ends the job with a diagnosis; zero or less: never. It must exceed the longest time that
    /// one rank
    /// may be busy while the others wait for it (loading, writing a checkpoint).</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How long the ranks wait for each other at the start, and for a value of the <see cref="Rendezvous"/>.</summary>
    public TimeSpan JoinTimeout { get; init; } = TimeSpan.FromSeconds(120);

    /// <summary>Operations that a group remembers for its dump; at least <see cref="QueueSize"/> are kept.</summary>
    public int RingSize { get; init; } = 256;

    /// <summary>Operations that may be outstanding in a host group; the next call waits until one has finished.</summary>
    public int QueueSize { get; init; } = 256;

    /// <summary>Bytes that a host backend exchanges with one peer at a time; each rank holds a buffer of this size per peer, 64 MiB in
    /// all.</summary>
    public int PieceBytes { get; init; } = 1 << 19;

    /// <summary>After the job has failed, this process is ended (exit code 1) if it has not left within this time: its work may hang where
    /// no
    /// exception reaches it, and nobody else may be there to end it. Zero or less: it is not ended.</summary>
    public TimeSpan ExitAfter { get; init; }

    /// <summary>Where dumps and diagnoses are written; null: standard error.</summary>
    public TextWriter? Diagnostics { get; init; }

    /// <summary>Ends this process.</summary>
    internal Action Exit { get; init; } = static () => Posix.EndProcess(1);

    internal bool HasTimeout => Timeout > TimeSpan.Zero;

    internal void Write(string text)
    {
        var writer = Diagnostics ?? Console.Error;
        lock (writer)
        {
            writer.WriteLine(text);
            writer.Flush();
        }
    }
}
