using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Runtime;
using Z1Coder.Tests.Trainer.Model;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>The loop on the first golden model and synthetic samples. Alone in the process: it counts allocations.</summary>
[Collection("alone")]
public sealed class TrainLoopTests
{
    private const int Samples = 50, LongestSample = 40;

    private static readonly GuardRecipe s_stop = new(Skip: false, SpikeZ: 0, Window: 4, MaxSkips: 3);

    internal static OptimizeRecipe Recipe() => new(
        Epochs: 2, MaxSteps: 0, BatchSamples: 8, MicroBatchTokens: 96, MicroBatchSamples: 0, MicroBatchMean: false, LastStep: LastStep.Keep,
        LearningRate: 1e-3, Schedule: ScheduleKind.Cosine, WarmupSteps: 2, MinimumLearningRate: 0, WeightDecay: 0.01, DecayAll: false,
        Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8, Clip: 1, Recompute: Recompute.None, HeadRows: 16);

    [Fact]
    public void A_step_allocates_nothing_once_warm()
    {
        Allocations<float>(Recipe(), new GuardRecipe(true, SpikeZ: 1e6, Window: 4, MaxSkips: 3));
        Allocations<BFloat16>(Recipe(), new GuardRecipe(true, SpikeZ: 1e6, Window: 4, MaxSkips: 3));
        Allocations<float>(Recipe() with { MicroBatchSamples = 2, MicroBatchMean = true, Recompute = Recompute.Block }, s_stop);
    }

    /// <summary>Two ranks that are threads: each counts its own.</summary>
    [Theory]
    [InlineData(ShardStrategy.None, false, false, false)]
    [InlineData(ShardStrategy.Zero2, true, false, false)]
    [InlineData(ShardStrategy.Fsdp, false, false, true)]
    [InlineData(ShardStrategy.Fsdp, true, false, true)]
    [InlineData(ShardStrategy.Hybrid, true, true, false)]
    public void A_step_of_ranks_allocates_nothing_once_warm(ShardStrategy strategy, bool perMicroBatch, bool ordered, bool bf16)
    {
        var bytes = new long[2];
        Ranks.Run(Ranks.Threads, 2, world =>
        {
            using var rank = new ShardedRank<float>(
                Goldens.Models.First(), world, new ParallelRecipe(strategy, strategy == ShardStrategy.Hybrid ? 1 : 0, ordered, perMicroBatch, bf16), Recipe());
            for (var i = 0; i < 10; i++)
            {
                rank.Step();
            }

            rank.Restart();
            rank.Step();
            rank.Step();
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < 8; i++)
            {
                rank.Step();
            }

            bytes[world.Rank] = GC.GetAllocatedBytesForCurrentThread() - before;
        });
        Assert.Equal([0L, 0L], bytes);
    }

    [Fact]
    public void The_packing_changes_no_loss()
    {
        var small = Run(Recipe() with { MicroBatchTokens = LongestSample + 1 }, 8);
        var large = Run(Recipe() with { MicroBatchTokens = 400 }, 8);
        var grouped = Run(Recipe() with { MicroBatchSamples = 3, MicroBatchTokens = 400 }, 8);
        Assert.True(small[0].MicroBatches > large[0].MicroBatches && grouped[0].MicroBatches == 3);
        for (var i = 0; i < 8; i++)
        {
            Assert.Equal((large[i].Tokens, large[i].LossTokens), (small[i].Tokens, small[i].LossTokens));
            Assert.Equal(large[i].Samples, small[i].Samples);

            // Twenty PyTorch steps stray by 1e-6 from float64 (train.json); the order of summation strays no more.
            Assert.InRange(small[i].Loss - large[i].Loss, -5e-6, 5e-6);
            Assert.InRange(grouped[i].Loss - large[i].Loss, -5e-6, 5e-6);
            Assert.InRange((small[i].GradientNorm / large[i].GradientNorm) - 1, -2e-5, 2e-5);
        }
    }

    [Fact]
    public void Both_loss_rules_are_the_means_that_they_say()
    {
        // A rate of 0 keeps the weights: every step's loss can be computed from each sample's own.
        var recipe = Recipe() with { LearningRate = 0, MicroBatchSamples = 3, MicroBatchTokens = 400 };
        using var bench = new Bench<float>(recipe, s_stop);
        var plan = bench.Plan(recipe);
        var own = bench.Samples.Select(bench.LossOf).ToArray();
        foreach (var mean in (bool[])[false, true])
        {
            var steps = Run(recipe with { MicroBatchMean = mean }, 7);
            for (var s = 0; s < steps.Count; s++)
            {
                var ids = plan.SamplesOf(s).ToArray();
                var groups = ids.Chunk(3).ToArray();
                var expected = mean
                    ? groups.Average(g => g.Sum(i => own[i]) / g.Sum(i => bench.Samples[i].LossTokens))
                    : ids.Sum(i => own[i]) / ids.Sum(i => bench.Samples[i].LossTokens);
                Assert.InRange(steps[s].Loss - expected, -5e-6, 5e-6);
                Assert.Equal((s + 1L, groups.Length, ids.Length), (steps[s].Step, steps[s].MicroBatches, steps[s].Samples));
            }
        }
    }

    [Fact]
    public void The_rate_is_that_of_the_schedule_and_an_epoch_ends_with_its_samples()
    {
        var steps = Run(Recipe(), 14);
        var schedule = new LearningRateSchedule(ScheduleKind.Cosine, 1e-3, 0, 2, 14);
        Assert.Equal(Enumerable.Range(0, 14).Select(i => schedule.At(i)), steps.Select(s => s.LearningRate));
        Assert.Equal(Samples, steps.Take(7).Sum(s => s.Samples));       // six steps of 8 and one of 2
        Assert.Equal((1.0, 2.0), (steps[6].Epoch, steps[13].Epoch));
        Assert.True(steps[13].Loss < steps[0].Loss);
        Assert.All(steps, s => Assert.True(s is { Fault: null, Flops: > 0, Seconds: > 0, UsefulShare: > 0 and < 1 }));
    }

    [Fact]
    public void Going_on_from_progress_is_going_on()
    {
        var recipe = Recipe();
        var guard = new GuardRecipe(true, 3, 3, 5);
        using var whole = new Bench<float>(recipe, guard);
        using var parts = new Bench<float>(recipe, guard);
        var expected = Enumerable.Range(0, 9).Select(_ => whole.Step()!.Value).ToList();
        for (var i = 0; i < 9; i++)
        {
            if (i is 1 or 4 or 5)
            {
                parts.Restart(TrainProgress.FromJson(new MemoryStream(parts.Loop.Progress.ToJson()), "progress"));
            }

            var actual = parts.Step()!.Value;
            Assert.Equal(expected[i] with { Seconds = 0 }, actual with { Seconds = 0 });
        }

        Assert.Equal(whole.Weights(), parts.Weights());
    }

    [Fact]
    public void A_skipped_step_changes_no_bit_and_is_not_counted_as_applied()
    {
        var recipe = Recipe();
        using var bench = new Bench<float>(recipe, new GuardRecipe(true, 5, 2, MaxSkips: 2));
        bench.Restart(new TrainProgress(3, 3, 0, [0.01, 0.011], [1e3, 1.1e3]));          // beside these every loss is a spike
        var before = bench.Weights();
        foreach (var skips in (int[])[1, 2])
        {
            var step = bench.Step()!.Value;
            Assert.Contains("standard deviations above", step.Fault);
            Assert.Equal((3L + skips, 3L, skips), (bench.Loop.Progress.Step, bench.Loop.Progress.Applied, bench.Loop.Progress.SkipsInARow));
        }

        var fatal = Assert.Throws<BadStepException>(() => bench.Step());
        Assert.Equal(bench.Plan(recipe).SamplesOf(5).ToArray(), fatal.Samples);
        Assert.Equal(before, bench.Weights());
        Assert.Equal((5L, 3L, 2), (bench.Loop.Progress.Step, bench.Loop.Progress.Applied, bench.Loop.Progress.SkipsInARow));      // as before it
    }

    [Fact]
    public void A_bad_step_stops_the_run_with_its_samples_and_the_old_weights()
    {
        using var bench = new Bench<float>(Recipe(), s_stop);
        bench.Model.Optimizer.Master.ByName.Single(p => p.Parameter.Name == "model.norm.weight").Tensor.Span[0] = float.NaN;
        var before = bench.Weights();
        var e = Assert.Throws<BadStepException>(() => bench.Step());
        Assert.Equal(bench.Plan(Recipe()).SamplesOf(0).ToArray(), e.Samples);
        Assert.Equal(bench.Loop.SamplesOf(e.Metrics.Step), e.Samples);
        Assert.Contains("not finite", e.Message);
        Assert.Equal(before, bench.Weights());
    }

    [Fact]
    public void A_request_to_stop_gives_the_step_up()
    {
        using var bench = new Bench<float>(Recipe(), s_stop);
        using var undisturbed = new Bench<float>(Recipe(), s_stop);
        bench.Step();
        var (before, progress) = (bench.Weights(), bench.Loop.Progress);
        Assert.Null(bench.Loop.Step(new CancellationToken(canceled: true)));
        Assert.Equal(before, bench.Weights());
        Assert.Equal((progress.Step, progress.Applied), (bench.Loop.Progress.Step, bench.Loop.Progress.Applied));
        undisturbed.Step();
        Assert.Equal(undisturbed.Step()!.Value.Loss, bench.Step()!.Value.Loss);
    }

    private static List<StepMetrics> Run(OptimizeRecipe recipe, int steps)
    {
        using var bench = new Bench<float>(recipe, s_stop);
        return [.. Enumerable.Range(0, steps).Select(_ => bench.Step()!.Value)];
    }

    private static void Allocations<T>(OptimizeRecipe recipe, GuardRecipe guard)
        where T : unmanaged
    {
        // oneDNN keeps one primitive per token count of a micro-batch, made when a worker first meets it: warm means that the same ten steps
        // have run once before.
        const int Before = 10;

        // On one worker this thread does everything, and its own count is exact.
        using (var alone = new CpuStream(1))
        using (var bench = new Bench<T>(recipe, guard, alone))
        {
            Steps(bench, Before);
            bench.Restart(TrainProgress.Start);
            Steps(bench, 2);
            var bytes = GC.GetAllocatedBytesForCurrentThread();
            Steps(bench, 8);
            Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - bytes);
        }

        // On two only the process can be counted, where a test runner allocates too now and then: not in every one of ten windows.
        using var both = new Bench<T>(recipe, guard);
        Steps(both, Before);
        var least = long.MaxValue;
        for (var window = 0; window < 10 && least != 0; window++)
        {
            both.Restart(TrainProgress.Start);
            Steps(both, 2);
            var bytes = GC.GetTotalAllocatedBytes(precise: true);
            Steps(both, 8);
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - bytes);
        }

        Assert.Equal(0, least);

        static void Steps(Bench<T> bench, int count)
        {
            for (var i = 0; i < count; i++)
            {
                bench.Step();
            }
        }
    }

    private sealed class Bench<T> : IDisposable
        where T : unmanaged
    {
        private readonly OptimizeRecipe _recipe;
        private readonly GuardRecipe _guard;
        private readonly ComputeStream? _stream;

        public Bench(OptimizeRecipe recipe, GuardRecipe guard, ComputeStream? stream = null)
        {
            (_recipe, _guard, _stream) = (recipe, guard, stream);
            Model = new GoldenModel<T>(
                Goldens.Models.First(), recipe.MicroBatchTokens, recipe.Recompute, recipe.HeadRows, recipe.AdamW, recipe.DecayAll);
            var random = new Random(1);
            Samples = [.. Enumerable.Range(0, TrainLoopTests.Samples).Select(i =>
            {
                var length = random.Next(3, LongestSample + 1);
                return new TokenizedSample(
                    $"s{i}", [.. Enumerable.Range(0, length).Select(_ => random.Next(Model.Config.VocabSize) / (1 + random.Next(9)))],
                    new TokenSpan(random.Next(1, length - 1), length));
            })];
            Restart(TrainProgress.Start);
        }

        public GoldenModel<T> Model { get; }

        public List<TokenizedSample> Samples { get; }

        public TrainLoop<T> Loop { get; private set; } = null!;

        public void Restart(TrainProgress progress) => Loop = new TrainLoop<T>(
            _stream ?? Model.Stream, Model.Optimizer, Model.Activations, Samples, Plan(_recipe), 14, _recipe, _guard, progress);

        public StepPlan Plan(OptimizeRecipe recipe) => new(Samples.Count, recipe.BatchSamples, seed: 9, recipe.LastStep);

        public StepMetrics? Step() => Loop.Step(CancellationToken.None);

        public double LossOf(TokenizedSample sample)
        {
            var batch = new PackedBatch(sample.Length, 1);
            batch.Add(0, sample);
            return Model.Model.Loss(Model.Stream, Model.Activations, batch);
        }

        public float[][] Weights() => [.. Model.Optimizer.Master.ByName.Select(p => p.Tensor.Span.ToArray())];

        public void Dispose() => Model.Dispose();
    }
}
