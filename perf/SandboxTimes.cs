namespace Z1Coder.Perf;

/// <summary>Sorted milliseconds per program.</summary>
/// <param name="Bare">The interpreter without confinement.</param>
/// <param name="Own">A confinement of its own.</param>
/// <param name="Kept">A kept confinement.</param>
public sealed record SandboxTimes(IReadOnlyList<double> Bare, IReadOnlyList<double> Own, IReadOnlyList<double> Kept)
{
    /// <summary>The value below which a fraction of them lies.</summary>
    public static double Quantile(IReadOnlyList<double> sorted, double fraction) => sorted[(int)(fraction * (sorted.Count - 1))];
}
