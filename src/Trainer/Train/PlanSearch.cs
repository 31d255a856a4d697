using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>
/// Tries every strategy with every choice of reduction, recomputation and micro-batch size, and keeps the best of each: of those that
/// fit, the shortest predicted step; of steps within 1 % of it, what sends least, then what takes least memory. Where nothing of a strategy
/// fits, the one that takes least memory stands for it.
/// </summary>
public static class PlanSearch
{
    private const double SameStep = 1.01;
    private const int MostMicroBatchSamples = 64;

    private static readonly (ShardStrategy Strategy, bool PerMicroBatch)[] s_ways =
    [
        (ShardStrategy.None, false), (ShardStrategy.Zero1, false), (ShardStrategy.Zero2, true), (ShardStrategy.Fsdp, false),
            (ShardStrategy.Fsdp, true),
        (ShardStrategy.Hybrid, false), (ShardStrategy.Hybrid, true),
    ];

    private static readonly Recompute[] s_recompute = [Recompute.None, Recompute.Norm | Recompute.SwiGlu, Recompute.Block];

    /// <summary>The best of each strategy and reduction, in the order of the strategies.</summary>
    /// <param name="config">the model</param>
    /// <param name="stage">batch, length of samples, head rows, reduction dtype; the rest is tried</param>
    /// <param name="dtype">bf16 or fp32</param>
    /// <param name="cluster">the machines</param>
    /// <param name="stream">whose arenas are declared</param>
    /// <returns>all with the optimizer offloaded, or none, as the stage says</returns>
    public static IReadOnlyList<RankPlan> Rows(Qwen2Config config, StageRecipe stage, string dtype, ClusterShape cluster,
        ComputeStream stream)
    {
        ArgumentNullException.ThrowIfNull(stage);
        ArgumentNullException.ThrowIfNull(cluster);
        var rows = new List<RankPlan>();
        foreach (var (strategy, perMicroBatch) in s_ways)
        {
            var several = cluster.Gpus > cluster.LocalSize && cluster.LocalSize > 1 && cluster.Gpus % cluster.LocalSize == 0;
            if (strategy == ShardStrategy.Hybrid ? several : cluster.Gpus > 1 || strategy == ShardStrategy.None)
            {
                var parallel = stage.Parallel with { Strategy = strategy, ShardSize = 0, ReducePerMicroBatch = perMicroBatch };
                rows.Add(Best([.. Choices(stage, cluster).Select(s => RankPlan.Of(config, s, dtype, parallel, cluster, stream))]));
            }
        }

        return rows;
    }

    /// <summary>The best of all; see the class. Check <see cref="RankPlan.Fits"/>.</summary>
    public static RankPlan Best(IReadOnlyList<RankPlan> plans)
    {
        var fitting = plans.Where(p => p.Fits).ToList();
        if (fitting.Count == 0)
        {
            return plans.MinBy(p => p.DeviceBytes)!;
        }

        var limit = fitting.Min(p => p.StepSeconds) * SameStep;
        return fitting.Where(p => p.StepSeconds <= limit).OrderBy(p => p.BytesMoved).ThenBy(p => p.DeviceBytes).First();
    }

    /// <summary>Where nothing fits: one sentence that says by how much, and what would make it fit.</summary>
    /// <param name="config">the model</param>
    /// <param name="stage">as given to <see cref="Rows"/></param>
    /// <param name="dtype">bf16 or fp32</param>
    /// <param name="cluster">on which nothing fits</param>
    /// <param name="stream">whose arenas are declared</param>
    public static string WhatWouldFit(Qwen2Config config, StageRecipe stage, string dtype, ClusterShape cluster, ComputeStream stream)
    {
        const int MostGpus = 1024;
        ArgumentNullException.ThrowIfNull(stage);
        ArgumentNullException.ThrowIfNull(cluster);
        var least = Rows(config, stage, dtype, cluster, stream).MinBy(p => p.DeviceBytes)!;
        var sentence = $"nothing fits: the least is {StrategyName(least.Parallel)} with {Gib(least.DeviceBytes)} a GPU, of {Gib(cluster.MemoryBytes)}";
        for (var gpus = cluster.Gpus * 2; gpus <= MostGpus; gpus *= 2)
        {
            var best = Best(Rows(config, stage, dtype, cluster with { Gpus = gpus }, stream));
            if (best.Fits)
            {
                sentence += $"; {gpus} GPUs would do ({StrategyName(best.Parallel)}, {Gib(best.DeviceBytes)})";
                break;
            }
        }

        if (!stage.Parallel.OffloadOptimizer)
        {
            var offloaded = Best(Rows(config, stage with { Parallel = stage.Parallel with { OffloadOptimizer = true } }, dtype, cluster,
                stream));
            sentence += offloaded.Fits
                ? $"; parallel.offload optimizer would do on these ({StrategyName(offloaded.Parallel)}, {Gib(offloaded.DeviceBytes)}, "
                    + $"and {Gib(offloaded.Memory.HostBytes * cluster.LocalSize)} of host memory a node)"
                : $"; parallel.offload optimizer would not be enough, it leaves {Gib(offloaded.DeviceBytes)}";
        }

        return sentence;
    }

    /// <summary>As a recipe spells it.</summary>
    public static string StrategyName(ParallelRecipe parallel)
    {
        ArgumentNullException.ThrowIfNull(parallel);
        var name = parallel.Strategy.ToString().ToLowerInvariant();
        name += parallel.Strategy is ShardStrategy.Fsdp or ShardStrategy.Hybrid ? $", reduce_per {(parallel.ReducePerMicroBatch ? "micro_batch" : "step")}" : "";
        return parallel.OffloadOptimizer ? $"{name}, offload" : name;
    }

    /// <summary>Micro-batches of 1, 2, 4, … longest samples, until a rank has all of its step in one, each with every
    /// recomputation.</summary>
    private static IEnumerable<StageRecipe> Choices(StageRecipe stage, ClusterShape cluster)
    {
        var share = (stage.Train.BatchSamples + cluster.Gpus - 1) / cluster.Gpus;
        for (var samples = 1; samples <= MostMicroBatchSamples; samples *= 2)
        {
            foreach (var recompute in s_recompute)
            {
                yield return stage with
                {
                    Train = stage.Train with { MicroBatchTokens = samples * stage.Data.MaxLength, MicroBatchSamples = 0,
                        Recompute = recompute },
                };
            }

            if (samples >= share)
            {
                yield break;
            }
        }
    }

    private static string Gib(long bytes) => $"{bytes / (double)(1 << 30):F1} GiB";
}
