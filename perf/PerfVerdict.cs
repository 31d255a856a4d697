namespace Z1Coder.Perf;

/// <summary>What a comparison says of one case.</summary>
public enum PerfVerdict
{
    /// <summary>Within the noise shown.</summary>
    Same,

    /// <summary>Quicker beyond it.</summary>
    Faster,

    /// <summary>Slower beyond it, or not a number.</summary>
    Slower,
}
