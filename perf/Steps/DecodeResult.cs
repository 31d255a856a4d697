namespace Z1Coder.Perf;

/// <summary>What decoding measured.</summary>
/// <param name="Case">size, type, batch</param>
/// <param name="TokensPerSecond">of the median repeat</param>
/// <param name="BestTokensPerSecond">of the quickest repeat</param>
/// <param name="Seconds">p20, p50 and p80 of a pass</param>
/// <param name="WeightBytes">bytes of the weights</param>
/// <param name="WeightGBps">bytes of the weights times passes per second</param>
/// <param name="ReadGBps">bandwidth of a plain read of the same weights, just before and after each repeat (the better); the median</param>
/// <param name="FloorShare">time of reading every weight once over the time of a pass: median of each repeat against its own read</param>
/// <param name="PrefillTokensPerSecond">prompt tokens</param>
/// <param name="PeakBytes">most resident memory of the process</param>
/// <param name="ManagedBytesPerPass">allocated by all threads; must be 0</param>
public sealed record DecodeResult(
    string Case, double TokensPerSecond, double BestTokensPerSecond, IReadOnlyList<double> Seconds, double WeightBytes, double WeightGBps, double ReadGBps,
    double FloorShare, double PrefillTokensPerSecond, long PeakBytes, long ManagedBytesPerPass)
{
    /// <summary>The columns of <see cref="ToString"/>.</summary>
    public static string Header =>
        $"{"decode",-16}{"tok/s",9}{"best",9}{"w GB/s",9}{"read GB/s",11}{"% floor",9}{"prefill/s",11}{"RSS GiB",9}{"alloc",7}{"load",6}";

    /// <summary>For a file of results.</summary>
    public PerfRow ToRow() => new(
        "decode", Case, "one pass", Seconds[0] * 1e6, Seconds[1] * 1e6, Seconds[2] * 1e6, WeightBytes, 0, ReadGBps * 1e9, 0, ManagedBytesPerPass);

    /// <inheritdoc/>
    public override string ToString() =>
        $"{Case,-16}{TokensPerSecond,9:F1}{BestTokensPerSecond,9:F1}{WeightGBps,9:F1}{ReadGBps,11:F1}{FloorShare * 100,9:F0}"
        + $"{PrefillTokensPerSecond,11:F0}{PeakBytes / (double)(1 << 30),9:F2}{ManagedBytesPerPass,7}{ProcStatus.Load(),6:F1}";
}
