namespace Z1Coder.Perf;

/// <summary>What decoding measured. The floor of a pass is the longer of two: reading weights and cache once, and doing the multiply-adds.</summary>
/// <param name="Case">size, type, batch</param>
/// <param name="TokensPerSecond">of the median repeat</param>
/// <param name="BestTokensPerSecond">of the quickest repeat</param>
/// <param name="Seconds">p20, p50 and p80 of a pass</param>
/// <param name="Bytes">of the weights and, at the middle pass, of the cached keys and values</param>
/// <param name="Flops">of the products and, at the middle pass, of attention</param>
/// <param name="ReadGBps">bandwidth of a plain read of the same weights, just before and after each repeat (the better); the median</param>
/// <param name="FmaGFlops">fp32 multiply-adds in registers, two operations each, measured likewise; 0 where not measured</param>
/// <param name="ReadShare">time of reading <paramref name="Bytes"/> over the time of a pass: median of each repeat against its own read</param>
/// <param name="FmaShare">time of doing <paramref name="Flops"/> over the time of a pass, likewise</param>
/// <param name="PrefillTokensPerSecond">prompt tokens</param>
/// <param name="PeakBytes">most resident memory of the process</param>
/// <param name="ManagedBytesPerPass">allocated by all threads; must be 0</param>
public sealed record DecodeResult(
    string Case, double TokensPerSecond, double BestTokensPerSecond, IReadOnlyList<double> Seconds, double Bytes, double Flops, double ReadGBps,
    double FmaGFlops, double ReadShare, double FmaShare, double PrefillTokensPerSecond, long PeakBytes, long ManagedBytesPerPass)
{
    /// <summary>The columns of <see cref="ToString"/>.</summary>
    public static string Header =>
        $"{"decode",-16}{"tok/s",9}{"best",9}{"read GB/s",11}{"GFLOP/s",9}{"% read",8}{"% fma",8}{"% floor",9}{"prefill/s",11}{"RSS GiB",9}{"alloc",7}{"load",6}";

    /// <summary>Of the longer floor.</summary>
    public double FloorShare => Math.Max(ReadShare, FmaShare);

    /// <summary>For a file of results.</summary>
    public PerfRow ToRow() => new(
        "decode", Case, "one pass", Seconds[0] * 1e6, Seconds[1] * 1e6, Seconds[2] * 1e6, Bytes, Flops, ReadGBps * 1e9, FmaGFlops * 1e9, ManagedBytesPerPass);

    /// <inheritdoc/>
    public override string ToString() =>
        $"{Case,-16}{TokensPerSecond,9:F1}{BestTokensPerSecond,9:F1}{ReadGBps,11:F1}{FmaGFlops,9:F0}{ReadShare * 100,8:F0}{FmaShare * 100,8:F0}{FloorShare * 100,9:F0}"
        + $"{PrefillTokensPerSecond,11:F0}{PeakBytes / (double)(1 << 30),9:F2}{ManagedBytesPerPass,7}{ProcStatus.Load(),6:F1}";
}
