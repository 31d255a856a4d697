namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>One building block of a problem. In every text {c} stands for the constant and {it} for what is worked on.</summary>
/// <param name="Key">Its name in combinations; the meaning of each key is in <see cref="NanoSemantics"/>.</param>
/// <param name="Code">The one canonical Python expression.</param>
/// <param name="Phrases">How a question may say it.</param>
internal sealed record NanoClause(string Key, string Code, params string[] Phrases)
{
    /// <summary>Left out of the problem.</summary>
    public bool IsNone => Code.Length == 0;

    /// <summary>Whether the problem must choose a constant for it.</summary>
    public bool HasConstant { get; } = Code.Contains("{c}", StringComparison.Ordinal);
}
