using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>
/// Training on 1 to 5 ranks under every strategy. A step has 12 samples in some six micro-batches of 48 tokens, so that the last round leaves
/// ranks idle; an epoch ends within the run with a smaller step.
/// </summary>
public sealed class ShardedTrainingTests
{
    private const int Steps = 6;

    private static readonly OptimizeRecipe s_recipe = TrainLoopTests.Recipe() with { MicroBatchTokens = 48, BatchSamples = 12 };

    /// <summary>Strategy, reduction per micro-batch, ranks, size of a shard group.</summary>
    public static TheoryData<ShardStrategy, bool, int, int> Spread
    {
        get
        {
            var data = new TheoryData<ShardStrategy, bool, int, int>();
            foreach (var ranks in (int[])[1, 2, 3, 4])
            {
                data.Add(ShardStrategy.None, false, ranks, 0);
                data.Add(ShardStrategy.Zero1, false, ranks, 0);
                data.Add(ShardStrategy.Zero2, true, ranks, 0);
                data.Add(ShardStrategy.Fsdp, false, ranks, 0);
                data.Add(ShardStrategy.Fsdp, true, ranks, 0);
            }

            data.Add(ShardStrategy.Hybrid, false, 4, 2);
            data.Add(ShardStrategy.Hybrid, true, 4, 2);
            data.Add(ShardStrategy.Hybrid, true, 3, 1);
            data.Add(ShardStrategy.Fsdp, true, 5, 0);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Spread))]
    public void Ordered_is_bit_equal_for_any_number_of_ranks_and_any_strategy(ShardStrategy strategy, bool perMicroBatch, int ranks, int shardSize)
    {
        Same<float>("a_tied", reduceBf16: false);
        Same<BFloat16>("b_untied", reduceBf16: false);
        Same<BFloat16>("a_tied", reduceBf16: true);

        void Same<T>(string model, bool reduceBf16)
            where T : unmanaged
        {
            var recipe = s_recipe with { StochasticRounding = reduceBf16 };
            var one = Alone<T>.Of(model, ordered: true, reduceBf16, recipe);
            var many = ShardedRun.Of<T>(
                model, ranks, new ParallelRecipe(strategy, shardSize, Ordered: true, perMicroBatch, reduceBf16), recipe, Steps);
            Assert.Equal(one.Steps.Select(ShardedRun.Untimed), many.Steps.Select(ShardedRun.Untimed));
            foreach (var (name, values) in one.Master)
            {
                Assert.True(values.AsSpan().SequenceEqual(many.Master[name]), $"{name} of the master");
                Assert.True(one.Weights[name].AsSpan().SequenceEqual(many.Weights[name]), $"{name} of the weights");
            }
        }
    }

    /// <summary>
    /// Plain sums differ from one rank's in the order of additions only. Twenty PyTorch steps in fp32 stray by some 1e-6 of loss and 2e-6 of norm from
    /// float64 (train.json), where every rounding of a step counts; another order of a few of them strays no more: bounds as for other packings of
    /// one rank. AdamW makes of a gradient at rounding level a step of up to the rate, so weights are compared by RMS, against the RMS of the
    /// whole update.
    /// </summary>
    [Theory]
    [MemberData(nameof(Spread))]
    public void Plain_sums_follow_the_curve_of_one_rank(ShardStrategy strategy, bool perMicroBatch, int ranks, int shardSize)
    {
        var one = Alone<float>.Of("a_tied", ordered: false, reduceBf16: false, s_recipe);
        var start = Alone<float>.Of("a_tied", ordered: false, reduceBf16: false, s_recipe with { LearningRate = 0 });
        var many = ShardedRun.Of<float>("a_tied", ranks, new ParallelRecipe(strategy, shardSize, Ordered: false, perMicroBatch), s_recipe, Steps);
        for (var i = 0; i < Steps; i++)
        {
            Assert.InRange(many.Steps[i].Loss - one.Steps[i].Loss, -5e-6, 5e-6);
            Assert.InRange((many.Steps[i].GradientNorm / one.Steps[i].GradientNorm) - 1, -2e-5, 2e-5);
            Assert.Equal(Counts(one.Steps[i]), Counts(many.Steps[i]));
        }

        var (difference, update) = (Rms(one.Master, many.Master), Rms(one.Master, start.Master));
        Assert.True(difference <= 0.01 * update, $"rms {difference:E2} of an update of rms {update:E2}");
        Assert.True(ranks == 1 && !perMicroBatch ? difference == 0 : difference > 0, $"rms {difference:E2}: the order must show, but for one rank");
    }

    /// <summary>Gradients rounded to bf16 on the way: each element strays by at most 2·2^-8·Σ|g_i| (held to that in ReducedGradientTests), so where
    /// micro-batches do not cancel each other the norm strays by less than 2·2^-8 of itself.</summary>
    [Theory]
    [InlineData(ShardStrategy.None, false, 2)]
    [InlineData(ShardStrategy.Fsdp, true, 3)]
    [InlineData(ShardStrategy.Zero2, true, 4)]
    public void Sums_through_bf16_stay_near(ShardStrategy strategy, bool perMicroBatch, int ranks)
    {
        var one = Alone<float>.Of("a_tied", ordered: false, reduceBf16: false, s_recipe);
        var many = ShardedRun.Of<float>("a_tied", ranks, new ParallelRecipe(strategy, 0, false, perMicroBatch, ReduceBf16: true), s_recipe, Steps);
        Assert.Equal(one.Steps[0].Loss, many.Steps[0].Loss, 5e-6);                        // before any gradient has been used
        Assert.InRange((many.Steps[0].GradientNorm / one.Steps[0].GradientNorm) - 1, -Math.ScaleB(1, -7), Math.ScaleB(1, -7));
        Assert.NotEqual(one.Steps[0].GradientNorm, many.Steps[0].GradientNorm, 1e-7);     // the rounding must show
        Assert.True(many.Steps[^1].Loss < many.Steps[0].Loss);
    }

    [Theory]
    [InlineData(ShardStrategy.None, 1)]
    [InlineData(ShardStrategy.Zero1, 2)]
    [InlineData(ShardStrategy.Fsdp, 3)]
    public void An_offloaded_optimizer_changes_no_bit_on_a_CPU(ShardStrategy strategy, int ranks)
    {
        Same<float>(s_recipe);
        Same<BFloat16>(s_recipe with { StochasticRounding = true });

        void Same<T>(OptimizeRecipe recipe)
            where T : unmanaged
        {
            var kept = ShardedRun.Of<T>("a_tied", ranks, new ParallelRecipe(strategy), recipe, 4);
            var offloaded = ShardedRun.Of<T>("a_tied", ranks, new ParallelRecipe(strategy, OffloadOptimizer: true), recipe, 4);
            Assert.Equal(kept.Steps.Select(ShardedRun.Untimed), offloaded.Steps.Select(ShardedRun.Untimed));
            Assert.All(kept.Master, p => Assert.Equal(p.Value, offloaded.Master[p.Key]));
            Assert.All(kept.Weights, p => Assert.Equal(p.Value, offloaded.Weights[p.Key]));
        }
    }

    [Theory]
    [InlineData(ShardStrategy.None, false)]
    [InlineData(ShardStrategy.Fsdp, true)]
    public void A_step_that_is_bad_on_one_rank_is_skipped_by_all(ShardStrategy strategy, bool perMicroBatch)
    {
        var results = new ShardedResult[3];
        Ranks.Run(Ranks.Threads, 3, world =>
        {
            using var rank = new ShardedRank<float>(
                "b_untied", world, new ParallelRecipe(strategy, 0, false, perMicroBatch), s_recipe, guard: new GuardRecipe(Skip: true, 0, 4, MaxSkips: 5));
            var poisoned = Poison(rank);
            var before = rank.Result([]).Weights;
            var first = rank.Step()!.Value;
            Assert.Contains("not finite", first.Fault);
            Assert.Contains(poisoned, rank.Loop.SamplesOf(1));
            var after = rank.Result([]).Weights;
            Assert.All(before, p => Assert.Equal(p.Value, after[p.Key]));
            Assert.Equal((1L, 0L, 1), (rank.Loop.Progress.Step, rank.Loop.Progress.Applied, rank.Loop.Progress.SkipsInARow));
            var second = rank.Step()!.Value;
            Assert.Null(second.Fault);
            results[world.Rank] = rank.Result([first, second]);
        });
        ShardedRun.Merge(results);
    }

    [Fact]
    public void A_bad_step_that_stops_the_run_stops_every_rank()
    {
        var outcomes = Ranks.Outcomes(Ranks.Threads, 2, world =>
        {
            using var rank = new ShardedRank<float>("b_untied", world, new ParallelRecipe(ShardStrategy.Zero2, ReducePerMicroBatch: true), s_recipe);
            Poison(rank);
            rank.Step();
        });
        Assert.All(outcomes, e => Assert.Equal(1, Assert.IsType<BadStepException>(e).Metrics.Step));
    }

    [Theory]
    [InlineData(ShardStrategy.None, false)]
    [InlineData(ShardStrategy.Zero2, true)]
    [InlineData(ShardStrategy.Fsdp, true)]
    public void A_stop_asked_of_one_rank_gives_the_step_up_on_all(ShardStrategy strategy, bool perMicroBatch)
    {
        var parallel = new ParallelRecipe(strategy, 0, false, perMicroBatch);
        var undisturbed = ShardedRun.Of<float>("a_tied", 3, parallel, s_recipe, 3);
        var results = new ShardedResult[3];
        Ranks.Run(Ranks.Threads, 3, world =>
        {
            using var stop = new CancellationTokenSource();
            var agreements = new AgreeingCollective(world);
            using var rank = new ShardedRank<float>("a_tied", agreements, parallel, s_recipe);
            var steps = new List<StepMetrics> { rank.Step()!.Value };
            Assert.Null(rank.Step(new CancellationToken(canceled: world.Rank == 1)));      // before the first round

            agreements.Agreed = world.Rank == 2 ? stop.Cancel : null;                      // in the first round: seen before the second
            Assert.Null(rank.Step(stop.Token));
            Assert.Equal(2, agreements.Count);
            agreements.Agreed = null;
            steps.Add(rank.Step()!.Value);
            steps.Add(rank.Step()!.Value);
            results[world.Rank] = rank.Result(steps);
        });
        var resumed = ShardedRun.Merge(results);
        Assert.Equal(undisturbed.Steps.Select(ShardedRun.Untimed), resumed.Steps.Select(ShardedRun.Untimed));
        Assert.All(undisturbed.Master, p => Assert.Equal(p.Value, resumed.Master[p.Key]));
    }

    [Fact]
    public void Ranks_that_no_shard_group_divides_are_refused_in_one_sentence()
    {
        var hybrid = new ParallelRecipe(ShardStrategy.Hybrid, ShardSize: 3);
        var message = Assert.Throws<InvalidInputException>(() => Parallelism.Planned(hybrid, 4)).Message;
        Assert.Contains("3 ranks (parallel.shard_size)", message);
        Assert.Contains("the 4 ranks of this run", message);
        Assert.Contains("8 ranks (the ranks of a node)", Assert.Throws<InvalidInputException>(() => Parallelism.Planned(hybrid with { ShardSize = 0 }, 12, 0, 8)).Message);
        using var planned = Parallelism.Planned(hybrid, 9, rank: 5);
        Assert.Equal((3, 3, 2, 1), (planned.ShardCount, planned.ReplicaCount, planned.Shard, planned.Replica));
        Assert.Throws<InvalidOperationException>(() => planned.World);
    }

    /// <summary>Makes a token's embedding NaN that one sample of the first step has and the second step has not: only the rank with that sample meets it (the head is
    /// not tied).</summary>
    private static int Poison(ShardedRank<float> rank)
    {
        var (first, second) = (rank.Loop.SamplesOf(1), rank.Loop.SamplesOf(2));
        var others = first.Concat(second).ToList();
        var (sample, token) = first.SelectMany(i => rank.Samples[i].Tokens.Select(t => (i, t)))
            .First(c => others.Count(o => rank.Samples[o].Tokens.Contains(c.t)) == 1);
        var columns = rank.Loop.Model.Config.HiddenSize;
        foreach (var (parameter, start, tensor) in rank.Optimizer.Master.ByName)
        {
            for (var i = 0; parameter.Name == "model.embed_tokens.weight" && i < tensor.Count; i++)
            {
                if ((start + i) / columns == token)
                {
                    tensor.Span[i] = float.NaN;
                }
            }
        }

        rank.Optimizer.PublishMaster(rank.Stream);
        return sample;
    }

    /// <summary>Says when ranks have agreed on something.</summary>
    private sealed class AgreeingCollective(ICollective inner) : ICollective
    {
        private Action? _agreed;

        public int Count { get; private set; }

        public Action? Agreed
        {
            set => (_agreed, Count) = (value, 0);
        }

        public int Rank => inner.Rank;

        public int Size => inner.Size;

        public string Backend => inner.Backend;

        public void AllReduce(Span<double> values, Reduction reduction)
        {
            inner.AllReduce(values, reduction);
            Count++;
            _agreed?.Invoke();
        }

        public long AllReduce<T>(ComputeStream stream, Tensor<T> data, Reduction reduction)
            where T : unmanaged => inner.AllReduce(stream, data, reduction);

        public long ReduceScatter<T>(ComputeStream stream, Tensor<T> whole, Tensor<T> shard, Reduction reduction)
            where T : unmanaged => inner.ReduceScatter(stream, whole, shard, reduction);

        public long AllGather<T>(ComputeStream stream, Tensor<T> shard, Tensor<T> whole)
            where T : unmanaged => inner.AllGather(stream, shard, whole);

        public long AllToAll<T>(ComputeStream stream, Tensor<T> sent, Tensor<T> received)
            where T : unmanaged => inner.AllToAll(stream, sent, received);

        public long Broadcast<T>(ComputeStream stream, Tensor<T> data, int root)
            where T : unmanaged => inner.Broadcast(stream, data, root);

        public void Wait(ComputeStream stream, long sequence) => inner.Wait(stream, sequence);

        public void Barrier() => inner.Barrier();

        public ICollective Split(int color, string name) => inner.Split(color, name);

        public void Abort(string reason) => inner.Abort(reason);

        public void Dispose()
        {
        }
    }

    private static (long, int, int, int, int, double) Counts(StepMetrics s) => (s.Step, s.Samples, s.Tokens, s.LossTokens, s.MicroBatches, s.Flops);

    private static double Rms(Dictionary<string, float[]> a, Dictionary<string, float[]> b)
    {
        double sum = 0, count = 0;
        foreach (var (name, values) in a)
        {
            sum += values.Zip(b[name], (x, y) => Math.Pow((double)x - y, 2)).Sum();
            count += values.Length;
        }

        return Math.Sqrt(sum / count);
    }

    /// <summary>What one rank without sharding gives.</summary>
    private static class Alone<T>
        where T : unmanaged
    {
        private static readonly Dictionary<string, ShardedResult> s_known = [];

        public static ShardedResult Of(string model, bool ordered, bool reduceBf16, OptimizeRecipe recipe)
        {
            lock (s_known)
            {
                var key = $"{model} {ordered} {reduceBf16} {recipe}";
                if (!s_known.TryGetValue(key, out var result))
                {
                    s_known[key] = result = ShardedRun.Of<T>(model, 1, new ParallelRecipe(Ordered: ordered, ReduceBf16: reduceBf16), recipe, Steps);
                }

                return result;
            }
        }
    }
}
