using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>One way to train on a cluster: what one rank needs, what it sends, and a predicted step of longest samples.</summary>
/// <remarks>
/// Step = M · micro-batch + optimizer + exposed communication. A micro-batch: GEMM flops at the GEMM rate, attention at half of it,
/// element-wise work at the memory bandwidth: w · (18·D + 4·(D + 2·K·H) + 8·F) bytes a token and layer, w · 2·V a token for the logits.
/// Recomputing a block adds half of its backward's flops and bytes; norm and SwiGLU add w · (4·D + 3·F) bytes. Between two kernels of a
/// layer,
/// 11 forward and 25 backward, 2 µs pass. AdamW takes the bytes of its shard at the memory bandwidth; offloaded it takes the longer of the
/// same bytes at the host's bandwidth and of 4 + w bytes an element over the link to the host. M = rounds of micro-batches. A prediction of
/// full micro-batches on rates that are assumed.
/// </remarks>
/// <param name="Parallel">strategy and its options</param>
/// <param name="Train">micro-batch and recomputation</param>
/// <param name="Memory">bytes by role</param>
/// <param name="Rounds">M, micro-batches of a rank in a step</param>
/// <param name="Traffic">what is sent</param>
/// <param name="ComputeSeconds">of forward and backward</param>
/// <param name="OptimizerSeconds">of AdamW on the shard</param>
/// <param name="Cluster">for which machines</param>
public sealed record RankPlan(
    ParallelRecipe Parallel, OptimizeRecipe Train, TrainPlan Memory, long Rounds, IReadOnlyList<CollectiveTraffic> Traffic,
    double ComputeSeconds,
    double OptimizerSeconds, ClusterShape Cluster)
{
    private const double AttentionShareOfRate = 0.5, GapForward = 11 * 2e-6, GapBackward = 25 * 2e-6;

    /// <summary>Bytes of a GPU: arenas, and the reserve for what is not in arenas.</summary>
    public long DeviceBytes => Memory.TotalBytes + Cluster.ReserveBytes;

    /// <summary>Whether they are there.</summary>
    public bool Fits => DeviceBytes <= Cluster.MemoryBytes;

    /// <summary>Bytes that a rank sends in a step.</summary>
    public double BytesMoved => Traffic.Sum(t => t.BytesPerRank);

    /// <summary>Time of the step that is communication and nothing else, s.</summary>
    public double ExposedSeconds => Traffic.Sum(t => t.ExposedSeconds);

    /// <summary>A step, s.</summary>
    public double StepSeconds => ComputeSeconds + OptimizerSeconds + ExposedSeconds;

    /// <summary>Tokens of all ranks in a second.</summary>
    public double TokensPerSecond => Memory.TokensPerStep / StepSeconds;

    /// <summary>Useful flops of a step over what all GEMM units could do in its time.</summary>
    public double Mfu => Memory.FlopsPerStep / (StepSeconds * Cluster.Gpus * Cluster.GemmFlopsPerSecond);

    /// <summary>Plans one way.</summary>
    /// <param name="config">the model</param>
    /// <param name="stage">data and training; its parallel section is not looked at</param>
    /// <param name="dtype">bf16 or fp32</param>
    /// <param name="parallel">the way</param>
    /// <param name="cluster">the machines</param>
    /// <param name="stream">whose arenas are declared</param>
    /// <exception cref="Data.InvalidInputException">the number of GPUs does not divide into shard groups</exception>
    public static RankPlan Of(Qwen2Config config, StageRecipe stage, string dtype, ParallelRecipe parallel, ClusterShape cluster,
        ComputeStream stream)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(stage);
        ArgumentNullException.ThrowIfNull(cluster);
        using var world = Parallelism.Planned(parallel, cluster.Gpus, rank: 0, cluster.LocalSize);
        var memory = TrainPlan.Of(config, stage, dtype, stream, world);
        var train = stage.Train;
        var samples = Math.Max(1, train.MicroBatchTokens / stage.Data.MaxLength);
        samples = train.MicroBatchSamples > 0 ? Math.Min(samples, train.MicroBatchSamples) : samples;
        var microBatches = (train.BatchSamples + samples - 1) / samples;
        var rounds = (microBatches + cluster.Gpus - 1) / cluster.Gpus;

        var weightBytes = dtype == "fp32" ? 4 : 2;
        var (forward, backward, head) = MicroBatch(config, stage, (long)samples * stage.Data.MaxLength, weightBytes, cluster);
        var layout = new ShardLayout(new Qwen2Parameters(config), world.ShardCount, parallel.Ordered ? world.ReplicaCount : 1);
        var layers = config.NumHiddenLayers;
        return new RankPlan(
            parallel, train, memory, rounds, StepTraffic.Of(world, layout, weightBytes, rounds, cluster, forward, backward),
            rounds * ((layers * (forward + backward)) + head), Optimizer(parallel, memory, layout, weightBytes, cluster), cluster);
    }

    private static double Optimizer(ParallelRecipe parallel, TrainPlan memory, ShardLayout layout, int weightBytes, ClusterShape cluster)
    {
        var elements = layout.Units.Sum(u => (double)u.Elements) / layout.Shards;
        return parallel.OffloadOptimizer
            ? Math.Max(
                memory.OptimizerBytesPerStep * cluster.LocalSize / ClusterShape.HostBytesPerSecond,
                elements * (4 + weightBytes) / ClusterShape.HostLinkBytesPerSecond)
            : memory.OptimizerBytesPerStep / cluster.BytesPerSecond;
    }

    /// <summary>Seconds of a layer forward, a layer backward with what it recomputes, and the head both ways, of one full
    /// micro-batch.</summary>
    private static (double Forward, double Backward, double Head) MicroBatch(
        Qwen2Config config, StageRecipe stage, long tokens, int weightBytes, ClusterShape cluster)
    {
        var (rate, bandwidth, length) = (cluster.GemmFlopsPerSecond, cluster.BytesPerSecond, stage.Data.MaxLength);
        double d = config.HiddenSize, f = config.IntermediateSize, kv = config.NumKeyValueHeads * config.HeadDim,
            layers = config.NumHiddenLayers;
        var matrices = TrainFlops.Of(config, tokens, 0, 0) / layers;
        var attention = TrainFlops.Of(config, 0, 0, tokens * length) / layers;
        var elements = tokens * weightBytes * ((18 * d) + (4 * (d + (2 * kv))) + (8 * f));
        var layer = (matrices / rate) + (attention / (AttentionShareOfRate * rate)) + (elements / bandwidth);
        var again = stage.Train.Recompute.HasFlag(Recompute.Block) ? (layer / 3) + GapForward
            : stage.Train.Recompute == Recompute.None ? 0 : tokens * weightBytes * ((4 * d) + (3 * f)) / bandwidth;
        var head = (TrainFlops.Of(config, 0, tokens, 0) / rate) + (tokens * weightBytes * 2.0 * config.VocabSize / bandwidth);
        return ((layer / 3) + GapForward, (layer * 2 / 3) + GapBackward + again, head);
    }
}
