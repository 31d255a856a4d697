namespace Z1Coder.Perf;

/// <summary>Figures of <see cref="CurateThroughput"/>.</summary>
/// <param name="Items">items a round</param>
/// <param name="Rounds">rounds into one file</param>
/// <param name="P20">µs an item that one in five rounds stayed below</param>
/// <param name="P50">µs an item of the median round</param>
/// <param name="P80">µs an item that four in five rounds stayed below</param>
/// <param name="ItemsPerCommit">records that shared an fsync, on average</param>
/// <param name="FirstHeap">live managed bytes after the first round</param>
/// <param name="LastHeap">live managed bytes after the last round</param>
public sealed record CurateResult(int Items, int Rounds, double P20, double P50, double P80, double ItemsPerCommit, long FirstHeap,
    long LastHeap)
{
    /// <summary>Items a second of the median round.</summary>
    public double ItemsPerSecond => 1e6 / P50;

    /// <summary>The row that a comparison reads.</summary>
    public PerfRow ToRow() =>
        new("curate", "trajectories", $"{Items} items, {CurateThroughput.Concurrency} in flight", P20, P50, P80, 0, 0, 0, 0, 0);

    /// <summary>One line for a person.</summary>
    public override string ToString() =>
        $"{Rounds} x {Items} items: {ItemsPerSecond:0} items/s, {P20:0} {P50:0} {P80:0} µs, "
        + $"{ItemsPerCommit:0.0} items a commit, heap {FirstHeap >> 10} and {LastHeap >> 10} KiB";
}
