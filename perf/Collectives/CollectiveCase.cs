namespace Z1Coder.Perf;

/// <summary>One operation at one size in one group. Sizes and bus bandwidth follow NCCL-tests (doc/PERFORMANCE.md there): the size is that
/// of the whole
/// buffer of a rank, and the bus bandwidth is what each rank's link must carry at least, so that figures of any operation and number of
/// ranks
/// compare with the speed of the link.</summary>
/// <param name="Operation">all-reduce, reduce-scatter, all-gather or all-to-all</param>
/// <param name="Bytes">of the whole buffer</param>
/// <param name="Ranks">of the group</param>
public sealed record CollectiveCase(string Operation, long Bytes, int Ranks)
{
    /// <summary>In the order of the table.</summary>
    public static IReadOnlyList<string> Operations { get; } = ["all-reduce", "reduce-scatter", "all-gather", "all-to-all"];

    /// <summary>Bytes of the sizes, 4 KiB to 64 MiB.</summary>
    public static IReadOnlyList<long> Sizes { get; } = [4L << 10, 64L << 10, 1L << 20, 16L << 20, 64L << 20];

    /// <summary>Bus bytes over size: 2 (n - 1)/n for all-reduce, (n - 1)/n for the others; 0 with one rank, which needs no link.</summary>
    public double BusFactor => (Operation == Operations[0] ? 2.0 : 1.0) * (Ranks - 1) / Ranks;

    /// <summary>Bytes that one rank must read and write in memory at least: all-reduce in place reads and writes the whole; reduce-scatter
    /// reads it and
    /// writes a part; all-gather reads a part and writes the whole; all-to-all reads and writes it. An all-reduce of one rank moves
    /// nothing.</summary>
    public double MemoryBytes =>
        Ranks == 1 && Operation == Operations[0] ? 0
        : Operation is "all-reduce" or "all-to-all" ? 2.0 * Bytes
        : Bytes + ((double)Bytes / Ranks);

    /// <summary>As a person writes it.</summary>
    public string Shape => Bytes >= 1 << 20 ? $"{Bytes >> 20} MiB" : $"{Bytes >> 10} KiB";
}
