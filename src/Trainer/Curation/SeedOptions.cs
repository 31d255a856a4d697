namespace Z1Coder.Trainer.Curation;

/// <summary>Which functions of open-source code may inspire an instruction.</summary>
public sealed record SeedOptions
{
    /// <summary>SPDX ids that are taken; empty takes code under any licence, and under none.</summary>
    public IReadOnlyList<string> Licenses { get; init; } = Curation.Licenses.Permissive;

    /// <summary>Fewest lines of a function.</summary>
    public int FewestLines { get; init; } = 4;

    /// <summary>Most lines of a function.</summary>
    public int MostLines { get; init; } = 100;

    /// <summary>Fewest words of its docstring.</summary>
    public int FewestDocstringWords { get; init; } = 5;

    /// <summary>Similarity to an earlier function that leaves one out; 0 leaves out none.</summary>
    public double NearDuplicates { get; init; } = 0.7;
}
