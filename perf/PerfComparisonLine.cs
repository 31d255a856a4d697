namespace Z1Coder.Perf;

/// <summary>One case in two runs.</summary>
/// <param name="Before">in the base</param>
/// <param name="After">in the later run</param>
public sealed record PerfComparisonLine(PerfRow Before, PerfRow After)
{
    /// <summary>Median of the later run over that of the base: below 1 is quicker.</summary>
    public double Ratio => After.P50 / Before.P50;

    /// <summary>The spreads of both runs together.</summary>
    public double Noise => Before.Spread + After.Spread;

    /// <summary>Whether the difference passes the noise.</summary>
    public PerfVerdict Verdict => !(Ratio <= 1 + Noise) ? PerfVerdict.Slower : Ratio < 1 - Noise ? PerfVerdict.Faster : PerfVerdict.Same;
}
