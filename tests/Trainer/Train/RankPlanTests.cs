using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Trainer.Checkpoints;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>Plans against what really allocated and running ranks take and send, and against figures worked out by hand.</summary>
public sealed class RankPlanTests
{
    private const double Gib = 1 << 30;

    private static readonly ClusterShape s_two = new(
        Gpus: 2, GpusPerNode: 8, MemoryBytes: 80L << 30, ReserveBytes: 2L << 30, InsideBytesPerSecond: 360e9, NodeBytesPerSecond: 400e9,
        GemmFlopsPerSecond: 650e12, BytesPerSecond: 2700e9);

    public static TheoryData<ShardStrategy, int, bool, bool, bool, bool> Worlds =>
    [
        .. from s in Enum.GetValues<ShardStrategy>()
           from n in Enumerable.Range(1, 4)
           where s != ShardStrategy.Hybrid || n % 2 == 0
           from perMicroBatch in new[] { false, true }
           where perMicroBatch == (s == ShardStrategy.Zero2) || s is ShardStrategy.Fsdp or ShardStrategy.Hybrid
           from bf16 in new[] { false, true }
           from ordered in new[] { false, true }
           where n != 3 || !ordered || s == ShardStrategy.Fsdp
           from offload in new[] { false, true }
           where !offload || (n <= 2 && !bf16 && !ordered)
           select (s, n, perMicroBatch, bf16, ordered, offload),
    ];

    [Theory, MemberData(nameof(Worlds))]
    public void A_rank_takes_and_sends_what_its_plan_says(ShardStrategy strategy, int ranks, bool perMicroBatch, bool bf16, bool ordered, bool offload)
    {
        var recipe = new ParallelRecipe(strategy, Ordered: ordered, ReducePerMicroBatch: perMicroBatch, ReduceBf16: bf16, OffloadOptimizer: offload);
        var stage = Stage(recipe, 40, TrainLoopTests.Recipe() with { MicroBatchTokens = 48 });
        RankBench<BFloat16>.Run(ranks, world =>
        {
            var counts = new Dictionary<(string Operation, int Ranks), (long Calls, double Bytes)>();
            using var bench = new RankBench<BFloat16>(new CountingCollective(world, counts), recipe, stage.Train);
            using var folder = new TemporaryFolder();
            using var writer = bench.Writer(new CheckpointStore(folder["run"]), asynchronous: true);
            using var planned = Parallelism.Planned(recipe, ranks, world.Rank, localSize: 2);
            var plan = TrainPlan.Of(RankBench<BFloat16>.Config, stage, "bf16", bench.Stream, planned);
            var arenas = bench.Optimizer.Arenas.Append(bench.Activations.Arena).ToList();
            Assert.All(arenas.Append(writer.Copy!), a => Assert.True(a.IsAllocated));
            Assert.Equal(arenas.Except(bench.Optimizer.HostArenas).Select(a => (a.Name, a.Bytes)), plan.Roles);
            Assert.Equal(bench.Optimizer.HostArenas.Append(writer.Copy!).Select(a => (a.Name, a.Bytes)), plan.HostRoles);
            Assert.Equal(offload, plan.HostRoles.Any(r => r.Role == "master weights"));

            counts.Clear();
            var metrics = bench.Loop.Step(CancellationToken.None)!.Value;
            var rounds = (metrics.MicroBatches + ranks - 1) / ranks;
            Assert.True(rounds > 1);
            var expected = StepTraffic.Of(planned, bench.Optimizer.Layout, 2, rounds, s_two with { Gpus = ranks }, 1, 1)
                .GroupBy(t => (Operation(t.What), t.Ranks)).ToDictionary(g => g.Key, g => (g.Sum(t => t.Calls), g.Sum(t => t.BytesPerRank)));
            Assert.Equal(expected.Keys.Order(), counts.Keys.Order());
            foreach (var (key, (calls, bytes)) in expected)
            {
                Assert.Equal(calls, counts[key].Calls);
                Assert.InRange(counts[key].Bytes / bytes, 1 - 1e-9, 1 + 1e-9);
            }

            return 0;
        });

        static string Operation(string what) =>
            Array.Find(["all-gather", "reduce-scatter", "all-reduce", "exchange"], o => what.Contains(o, StringComparison.Ordinal))!;
    }

    [Theory]
    [InlineData("0.5b", 494_032_768)]
    [InlineData("1.5b", 1_543_714_304)]
    [InlineData("3b", 3_085_938_688)]
    [InlineData("7b", 7_615_616_512)]
    [InlineData("14b", 14_770_033_664)]
    [InlineData("32b", 32_763_876_352)]
    public void Known_models_have_the_published_parameters(string name, long parameters) =>
        Assert.Equal(parameters, new Qwen2Parameters(KnownModels.Find(name)).Count);

    /// <summary>bf16 weights 2, fp32 gradients 4, master 4, moments 8: 18 bytes a parameter, of which each strategy divides some by the
    /// ranks.</summary>
    [Theory]
    [InlineData("1.5b", 2)]
    [InlineData("7b", 2)]
    [InlineData("7b", 8)]
    [InlineData("32b", 64)]
    [InlineData("32b", 1024)]
    public void State_takes_eighteen_bytes_a_parameter_divided_as_the_strategies_say(string model, int gpus)
    {
        var config = KnownModels.Find(model);
        var parameters = new Qwen2Parameters(config);
        double p = parameters.Count, n = gpus;
        var layout = new ShardLayout(parameters, gpus);
        var windows = layout.Units[0].Elements + (2.0 * layout.Units[1].Elements) + layout.Units[^1].Elements;
        foreach (var (strategy, perMicroBatch, bytes) in new[]
        {
            (ShardStrategy.None, false, 18 * p), (ShardStrategy.Zero1, false, (6 * p) + (12 * p / n)),
            (ShardStrategy.Zero2, true, (2 * p) + (16 * p / n) + (4 * windows)), (ShardStrategy.Fsdp, false, (4 * p) + (14 * p / n) + (2 * windows)),
            (ShardStrategy.Fsdp, true, (18 * p / n) + (6 * windows)),
        })
        {
            var plan = Plan(config, strategy, perMicroBatch, s_two with { Gpus = gpus }, 1, Recompute.Block);
            var state = plan.Memory.Roles.Where(r => r.Role != "activations").Sum(r => r.Bytes);

            // padding: less than 1024 elements a shard and unit, and 128 a block; then less than 64 bytes a tensor
            var padded = 1 + (((layout.Units.Count * 1024 * n) + (parameters.Blocks.Count * 128)) / p);
            Assert.InRange(state / bytes, 1 - 1e-9, padded + (layout.Units.Count * 6 * 64 / bytes));
            Assert.InRange(plan.Memory.HostBytes / (12 * p / n), 1 - 1e-9, padded + (layout.Units.Count * 3 * 64 * n / (12 * p)));
        }
    }

    /// <summary>Rajbhandari et al. 2020 (arXiv:1910.02054) section 7: stage 1 and 2 send as much as data parallelism, stage 3 half as much
    /// again:
    /// with as many bytes a weight as a gradient.</summary>
    [Fact]
    public void Bytes_sent_are_those_of_the_literature()
    {
        var config = KnownModels.Find("7b");
        double p = new Qwen2Parameters(config).Count, share = 63.0 / 64;
        var cluster = s_two with { Gpus = 64 };
        var bf16 = new ParallelRecipe(ReduceBf16: true);
        foreach (var (strategy, perMicroBatch, factor) in new[]
        {
            (ShardStrategy.None, false, 2.0), (ShardStrategy.Zero1, false, 2), (ShardStrategy.Zero2, true, 2), (ShardStrategy.Fsdp, true, 3),
        })
        {
            // one micro-batch a step: 64 samples, one each
            var stage = Stage(bf16, 1280, TrainLoopTests.Recipe() with { BatchSamples = 64, MicroBatchTokens = 1280, HeadRows = 512 });
            using var stream = new CpuStream(1);
            var plan = RankPlan.Of(config, stage, "bf16", bf16 with { Strategy = strategy, ReducePerMicroBatch = perMicroBatch }, cluster, stream);
            Assert.Equal(1, plan.Rounds);
            var ends = 2 * 152064.0 * 3584;                                  // gathered once, and two layers are found where forward left them
            var found = strategy == ShardStrategy.Fsdp ? ends + (2.0 * (p - ends) / 28) : 0;
            Assert.InRange(plan.BytesMoved / (2 * share * ((factor * p) - found)), 0.999, 1.002);
        }
    }

    [Fact]
    public void The_published_runs_fit_their_two_gpus_of_80_gb()
    {
        using var stream = new CpuStream(1);
        var small = PlanSearch.Rows(KnownModels.Find("1.5b"), Default(), "bf16", s_two, stream);
        Assert.All(small, row => Assert.True(row.Fits));
        var best = PlanSearch.Best(small);
        Assert.Equal(ShardStrategy.Zero1, best.Parallel.Strategy);            // of those that need no recomputation it sends least
        Assert.Equal(Recompute.None, best.Train.Recompute);

        // shared/FACTS.md's roofline for an H100, and llmq's measured 58.9k tokens/s
        Assert.InRange(best.TokensPerSecond / 2, 50_000, 62_000);

        var large = PlanSearch.Rows(KnownModels.Find("7b"), Default(), "bf16", s_two, stream);
        Assert.Equal(ShardStrategy.Fsdp, PlanSearch.Best(large).Parallel.Strategy);
        Assert.True(PlanSearch.Best(large).Fits);
        Assert.False(large.Single(r => r.Parallel.Strategy == ShardStrategy.None).Fits);
        Assert.False(large.Single(r => r.Parallel.Strategy == ShardStrategy.Zero1).Fits);        // 76 GB of state alone: FACTS.md says so too
        Assert.InRange(PlanSearch.Best(large).TokensPerSecond / 2, 12_000, 15_700);
    }

    [Fact]
    public void Where_nothing_fits_it_is_said_what_would()
    {
        using var stream = new CpuStream(1);
        var alone = s_two with { Gpus = 1 };
        Assert.False(PlanSearch.Best(PlanSearch.Rows(KnownModels.Find("7b"), Default(), "bf16", alone, stream)).Fits);
        var sentence = PlanSearch.WhatWouldFit(KnownModels.Find("7b"), Default(), "bf16", alone, stream);
        Assert.Contains("nothing fits: the least is none with 130", sentence);
        Assert.Contains("2 GPUs would do (fsdp", sentence);
        Assert.Contains("parallel.offload optimizer would do on these (none, offload, 5", sentence);
        Assert.DoesNotContain('\n', sentence);
    }

    [Theory]
    [InlineData(2, false, 2, 360e9)]                // in a node
    [InlineData(8, false, 8, 360e9)]
    [InlineData(16, false, 16, 360e9)]              // across: 400 of the node, 360 of each GPU
    [InlineData(64, true, 8, 50e9)]                 // eight replica groups leave each node
    [InlineData(64, true, 1, 360e9)]                // one does
    [InlineData(8, true, 2, 360e9)]
    [InlineData(12, false, 12, 360e9)]
    public void A_group_has_the_links_that_it_uses(int gpus, bool replicas, int shards, double bandwidth) =>
        Assert.Equal(bandwidth, (s_two with { Gpus = gpus }).Bandwidth(shards, replicas));

    [Fact]
    public void Slow_links_are_exposed_and_fast_ones_are_hidden()
    {
        var config = KnownModels.Find("7b");
        var fast = Plan(config, ShardStrategy.Fsdp, true, s_two, 4, Recompute.Block);
        var slow = Plan(config, ShardStrategy.Fsdp, true, s_two with { InsideBytesPerSecond = 10e9 }, 4, Recompute.Block);
        Assert.Equal(fast.BytesMoved, slow.BytesMoved);
        Assert.Equal(fast.ComputeSeconds, slow.ComputeSeconds);
        Assert.True(fast.ExposedSeconds < 0.01 * fast.ComputeSeconds);

        // by hand: a layer's forward takes its share of compute; its gather is what is left over
        var sent = slow.BytesMoved / 10e9;
        Assert.InRange(slow.ExposedSeconds, sent - slow.ComputeSeconds, sent);
        Assert.All(slow.Traffic, t => Assert.InRange(t.ExposedSeconds, 0, t.Seconds + (0.001 * sent)));
        Assert.Equal(slow.StepSeconds, slow.ComputeSeconds + slow.OptimizerSeconds + slow.ExposedSeconds, 1e-9);
    }

    [Fact]
    public void Hybrid_that_does_not_divide_is_refused()
    {
        using var stream = new CpuStream(1);
        Assert.Throws<InvalidInputException>(() => RankPlan.Of(
            KnownModels.Find("0.5b"), Default(), "bf16", new ParallelRecipe(ShardStrategy.Hybrid), s_two with { Gpus = 12 }, stream));
        Assert.DoesNotContain(
            PlanSearch.Rows(KnownModels.Find("0.5b"), Default(), "bf16", s_two with { Gpus = 12 }, stream), r => r.Parallel.Strategy == ShardStrategy.Hybrid);
        Assert.Contains(
            PlanSearch.Rows(KnownModels.Find("0.5b"), Default(), "bf16", s_two with { Gpus = 16 }, stream), r => r.Parallel.Strategy == ShardStrategy.Hybrid);
    }

    private static RankPlan Plan(Qwen2Config config, ShardStrategy strategy, bool perMicroBatch, ClusterShape cluster, int samples, Recompute recompute)
    {
        using var stream = new CpuStream(1);
        var stage = Default();
        stage = stage with { Train = stage.Train with { MicroBatchTokens = samples * 1280, Recompute = recompute } };
        return RankPlan.Of(config, stage, "bf16", new ParallelRecipe(strategy, ReducePerMicroBatch: perMicroBatch), cluster, stream);
    }

    private static StageRecipe Default() =>
        Stage(new ParallelRecipe(), 1280, TrainLoopTests.Recipe() with { BatchSamples = 1024, MicroBatchTokens = 1280, HeadRows = 512 });

    private static StageRecipe Stage(ParallelRecipe parallel, int length, OptimizeRecipe train) => new(
        "s", new DatasetOptions { MaxLength = length }, train, new GuardRecipe(false, 0, 8, 1), new EvalRecipe(0, null, 0, 1), new CheckpointRecipe(0, 1))
    {
        Parallel = parallel,
    };
}
