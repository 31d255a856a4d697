using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>
/// What a step sends between ranks, by the operations that <see cref="Optimizer{T}"/> calls. Ring convention: of a payload of B bytes, a
/// rank
/// of n sends B·(n-1)/n in a reduce-scatter, an all-gather or an exchange of all with all, and twice that in an all-reduce.
/// Legend: E elements of all units with padding, S ranks of a shard group, R replicas, M rounds of micro-batches, L layers,
/// w bytes of a weight, g bytes of a gradient on its way (4, or 2 with reduce_dtype bf16).
/// </summary>
/// <remarks>
/// whole gradients (none, zero1, fsdp and hybrid with reduce_per step): reduce-scatter E·g over S, all-reduce E/S·g over R, at the end of
/// the step.
/// gradients in windows (zero2, reduce_per micro_batch): M times E·g over S beside backward, then all-reduce 4·E/S over R.
/// ordered: M times an exchange of E·g over S and of E·g over R, then all-gather 4·E/S over R.
/// whole weights: all-gather E·w over S after AdamW. Weights in windows (fsdp, hybrid): embedding and head once a step; forward and
/// backward of a
/// micro-batch find two layers in the windows that the pass before left there: M·2·(L - 2) + 2 layers a step.
/// </remarks>
internal static class StepTraffic
{
    private const int Float = 4;

    /// <summary>The operations of a step.</summary>
    /// <param name="parallelism">strategy and groups</param>
    /// <param name="layout">its units</param>
    /// <param name="weightBytes">w</param>
    /// <param name="rounds">M</param>
    /// <param name="cluster">bandwidths</param>
    /// <param name="layerForward">s, one layer and micro-batch</param>
    /// <param name="layerBackward">s, one layer and micro-batch, recomputation included</param>
    public static IReadOnlyList<CollectiveTraffic> Of(
        Parallelism parallelism, ShardLayout layout, int weightBytes, long rounds, ClusterShape cluster, double layerForward,
        double layerBackward)
    {
        var (s, r) = (parallelism.ShardCount, parallelism.ReplicaCount);
        var (shards, replicas) = (new Ring(s, cluster.Bandwidth(s, replicas: false)), new Ring(r, cluster.Bandwidth(s, replicas: true)));
        var gradientBytes = parallelism.Recipe.ReduceBf16 ? 2 : Float;
        var layers = layout.Units.Skip(1).SkipLast(1).Select(u => (double)u.Elements).ToList();
        double ends = layout.Units[0].Elements + (double)layout.Units[^1].Elements;
        var all = layers.Sum() + ends;
        var (layer, units) = (layers.Average(), layout.Units.Count);
        var list = new List<CollectiveTraffic>();

        // weights first: what they leave of a layer's time, the gradients' exchange may use
        var (gather, gatherBackward) = (shards.Seconds(layer * weightBytes), 0.0);
        if (parallelism.ShardsWeights)
        {
            var found = Math.Min(2, layers.Count);
            var (forward, backward) = ((rounds * (layers.Count - found)) + found, rounds * (layers.Count - found));
            gatherBackward = gather;
            Add("weights of layers, all-gather, forward", shards, forward, layer * weightBytes, Hidden(gather,
                layerForward) * forward + gather);
            Add("weights of layers, all-gather, backward", shards, backward, layer * weightBytes, Hidden(gather, layerBackward) * backward);
            Add("weights of embedding and head, all-gather", shards, 2, ends / 2 * weightBytes, shards.Seconds(ends / 2 * weightBytes));
        }
        else
        {
            Add("weights, all-gather after AdamW", shards, units, all / units * weightBytes,
                units * shards.Seconds(all / units * weightBytes));
        }

        if (parallelism.Recipe.Ordered)
        {
            var calls = rounds * units;
            Add("gradients, ordered exchange", shards, calls, all / units * gradientBytes,
                calls * shards.Seconds(all / units * gradientBytes));
            Add(
                "gradients, ordered exchange", replicas, calls * s, all / units / s * gradientBytes,
                calls * s * replicas.Seconds(all / units / s * gradientBytes));
            Add("gradient shards, all-gather", replicas, units, all / units / s * Float, units * replicas.Seconds(all / units / s * Float));
        }
        else if (parallelism.ReducesPerMicroBatch)
        {
            var scatter = shards.Seconds(layer * gradientBytes);
            var room = Math.Max(0, layerBackward - gatherBackward);
            Add("gradients of layers, reduce-scatter", shards, rounds * layers.Count, layer * gradientBytes, Hidden(scatter,
                room) * rounds * layers.Count);
            Add(
                "gradients of embedding and head, reduce-scatter", shards, rounds * 2, ends / 2 * gradientBytes,
                (Hidden(shards.Seconds(ends / 2 * gradientBytes),
                2 * layerBackward) * 2 * rounds) + shards.Seconds(ends / 2 * gradientBytes));
            AddAllReduce(Float);
        }
        else
        {
            Add("gradients, reduce-scatter", shards, units, all / units * gradientBytes,
                units * shards.Seconds(all / units * gradientBytes));
            AddAllReduce(gradientBytes);
        }

        return [.. list.Where(t => t.Ranks > 1)];

        void AddAllReduce(int bytes)
        {
            var payload = 2 * all / units / s * bytes;          // as much as a reduce-scatter and an all-gather
            Add("gradient shards, all-reduce", replicas, units, payload, units * replicas.Seconds(payload));
        }

        void Add(string what, Ring ring, long calls, double payload, double exposed) =>
            list.Add(new(what, ring.Ranks, calls, calls * payload * ring.Share, calls * ring.Seconds(payload), exposed));
    }

    /// <summary>What is left of an operation that runs beside a computation.</summary>
    private static double Hidden(double operation, double computation) => Math.Max(0, operation - computation);

    private readonly record struct Ring(int Ranks, double Bandwidth)
    {
        public double Share => (Ranks - 1.0) / Ranks;

        public double Seconds(double payload) => Ranks == 1 ? 0 : (payload * Share / Bandwidth) + ((Ranks - 1) * ClusterShape.HopSeconds);
    }
}
