namespace Z1Coder.Trainer.Curation;

/// <summary>How a run goes about its items.</summary>
public sealed record CurationOptions
{
    /// <summary>Items worked on at once.</summary>
    public int Concurrency { get; init; } = 16;

    /// <summary>Seconds that items in flight get to finish after a signal.</summary>
    public double GraceSeconds { get; init; } = 30;

    /// <summary>
    /// The run stops after so many failed items with no success between them: the server is down, not the item bad. A request refused for its own
    /// sake counts only while the server has answered none.
    /// </summary>
    public int FailuresInARow { get; init; } = 20;
}
