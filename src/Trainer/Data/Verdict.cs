namespace Z1Coder.Trainer.Data;

/// <summary>Whether a record is kept, and if not why not.</summary>
/// <param name="Reason">Null when kept; else the reason, in the same few words for every record it applies to (they are counted).</param>
public readonly record struct Verdict(string? Reason)
{
    /// <summary>The record is kept.</summary>
    public static Verdict Keep => default;

    /// <summary>True when the record is kept.</summary>
    public bool IsKept => Reason is null;

    /// <summary>The record is left out for this reason.</summary>
    public static Verdict Drop(string reason) => new(reason);
}
