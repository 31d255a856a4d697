namespace Z1Coder.Trainer.Train;

/// <summary>The machines that a plan is made for. Rates are assumptions of whoever asks; a plan repeats them.</summary>
/// <param name="Gpus">N, one rank each</param>
/// <param name="GpusPerNode">G; ranks of a node are consecutive</param>
/// <param name="MemoryBytes">of one GPU</param>
/// <param name="ReserveBytes">of it, what the driver, libraries, NCCL and kernel scratch take beside the arenas</param>
/// <param name="InsideBytesPerSecond">bus bandwidth of one GPU inside a node</param>
/// <param name="NodeBytesPerSecond">bandwidth of a node to the others, all its adapters together</param>
/// <param name="GemmFlopsPerSecond">of one GPU, in the compute dtype; 100 % MFU</param>
/// <param name="BytesPerSecond">memory bandwidth of one GPU</param>
public sealed record ClusterShape(
    int Gpus, int GpusPerNode, long MemoryBytes, long ReserveBytes, double InsideBytesPerSecond, double NodeBytesPerSecond,
    double GemmFlopsPerSecond,
    double BytesPerSecond)
{
    /// <summary>Time of one step of a ring, s: start-up of a transfer, not its bytes.</summary>
    public const double HopSeconds = 5e-6;

    /// <summary>Between a GPU and host memory, bytes per second: PCIe 4.0 x16, an assumption.</summary>
    public const double HostLinkBytesPerSecond = 25e9;

    /// <summary>Memory bandwidth of a host, bytes per second, which its ranks share: an assumption.</summary>
    public const double HostBytesPerSecond = 200e9;

    /// <summary>Ranks of a node that take part.</summary>
    public int LocalSize => Math.Min(Gpus, GpusPerNode);

    /// <summary>
    /// Bandwidth that one rank sees in a ring over its shard group (consecutive ranks) or its replica group (every S-th rank): that of the
    /// links inside when the group stays in a node; else at most the node's to the outside, shared by the groups that leave it: one for
    /// shard
    /// groups, min(S, G) for replica groups.
    /// </summary>
    public double Bandwidth(int shards, bool replicas)
    {
        var inside = replicas ? Gpus <= GpusPerNode : shards <= GpusPerNode && GpusPerNode % shards == 0;
        var sharing = replicas ? Math.Min(shards, GpusPerNode) : 1;
        return inside ? InsideBytesPerSecond : Math.Min(InsideBytesPerSecond, NodeBytesPerSecond / sharing);
    }
}
