using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;
using Z1Coder.Tests.Runtime.Collectives;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>The strategies on hostcuda with one rank: windows, staging, accumulation and offload are the device's code, only the ranks are missing.</summary>
[Collection("hostcuda")]
public sealed class CudaShardTests
{
    private static readonly OptimizeRecipe s_recipe = TrainLoopTests.Recipe() with { MicroBatchTokens = 64, BatchSamples = 4, HeadRows = 16 };

    /// <summary>One rank, ordered: what the tests compare ranks with.</summary>
    private static readonly Lazy<Outcome> s_alone = new(() => Run(new ParallelRecipe(Ordered: true), s_recipe));

    [Fact]
    public void Strategies_that_add_in_the_same_order_give_the_same_bits()
    {
        var whole = Run(new ParallelRecipe(), s_recipe);
        Assert.True(whole.Steps[0].MicroBatches > 1);
        foreach (var strategy in (ShardStrategy[])[ShardStrategy.Zero1, ShardStrategy.Fsdp, ShardStrategy.Hybrid])
        {
            Same(whole, Run(new ParallelRecipe(strategy), s_recipe), $"{strategy}");
        }

        Same(whole, Run(new ParallelRecipe(OffloadOptimizer: true), s_recipe), "offload", ulps: true);

        var scattered = Run(new ParallelRecipe(ShardStrategy.Zero2), s_recipe);
        Same(scattered, Run(new ParallelRecipe(ShardStrategy.Fsdp, ReducePerMicroBatch: true), s_recipe), "fsdp, per micro-batch");
        var ordered = s_alone.Value;
        Same(ordered, Run(new ParallelRecipe(ShardStrategy.Fsdp, Ordered: true), s_recipe), "fsdp, ordered");
        for (var b = 0; b < scattered.Gradients.Length; b++)
        {
            // one rank: per micro-batch is in the order of micro-batches too, only the norm is added otherwise
            Assert.Equal(scattered.Gradients[b], ordered.Gradients[b]);
        }
    }

    [Fact]
    public void Offload_and_bf16_reduction_go_together_with_stochastic_rounding()
    {
        var recipe = s_recipe with { StochasticRounding = true };
        var fsdp = Run(new ParallelRecipe(ShardStrategy.Fsdp, ReducePerMicroBatch: true, ReduceBf16: true), recipe);
        Same(fsdp, Run(new ParallelRecipe(ShardStrategy.Zero2, ReduceBf16: true), recipe), "zero2");
        Same(fsdp, Run(new ParallelRecipe(ShardStrategy.Fsdp, ReducePerMicroBatch: true, ReduceBf16: true, OffloadOptimizer: true), recipe), "offload", ulps: true);
        Assert.True(fsdp.Steps[^1].Loss < fsdp.Steps[0].Loss);
    }

    /// <summary>Ranks over NCCL, each with a device of hostcuda: gathers, scatters and windows are ordered by events between two streams.</summary>
    [Theory]
    [InlineData(2, ShardStrategy.None, false, 0)]
    [InlineData(2, ShardStrategy.Zero1, false, 0)]
    [InlineData(2, ShardStrategy.Zero2, true, 0)]
    [InlineData(2, ShardStrategy.Fsdp, true, 0)]
    [InlineData(3, ShardStrategy.Fsdp, false, 0)]
    [InlineData(4, ShardStrategy.Hybrid, true, 2)]
    public void Ranks_over_nccl_are_one_rank(int ranks, ShardStrategy strategy, bool perMicroBatch, int shardSize)
    {
        var alone = s_alone.Value;
        Same(alone, RunRanks(ranks, new ParallelRecipe(strategy, shardSize, Ordered: true, perMicroBatch), s_recipe), $"{strategy} over {ranks}");

        // Plain sums: bf16 compute, so that another order of a gradient's sum shows in the last bit of a weight, and that as 2^-8 of an activation.
        var plain = RunRanks(ranks, new ParallelRecipe(strategy, shardSize, Ordered: false, perMicroBatch), s_recipe);
        Assert.Equal(alone.Steps[0].Loss, plain.Steps[0].Loss, 1e-6 * alone.Steps[0].Loss);
        Assert.Equal(alone.Steps[0].GradientNorm, plain.Steps[0].GradientNorm, 1e-5 * alone.Steps[0].GradientNorm);
        for (var i = 1; i < alone.Steps.Count; i++)
        {
            Assert.Equal(alone.Steps[i].Loss, plain.Steps[i].Loss, Math.ScaleB(1, -8) * alone.Steps[i].Loss);
        }
    }

    private static Outcome RunRanks(int ranks, ParallelRecipe parallel, OptimizeRecipe recipe)
    {
        var outcomes = new Outcome[ranks];
        NcclRanks.Run(ranks, (world, stream) => outcomes[world.Rank] = Run(world, stream, parallel, recipe));
        foreach (var other in outcomes)
        {
            Assert.Equal(outcomes[0].Steps.Select(ShardedRun.Untimed), other.Steps.Select(ShardedRun.Untimed));
            Assert.All(Enumerable.Range(0, other.Weights.Length), b => Assert.Equal(outcomes[0].Weights[b], other.Weights[b]));
        }

        return outcomes[0];
    }

    private static void Same(Outcome expected, Outcome actual, string what, bool ulps = false)
    {
        if (ulps)
        {
            // The CPU's AdamW and the device's round a division and a root each; one step apart they differ by last bits of the master.
            Assert.Equal(expected.Steps[0].Loss, actual.Steps[0].Loss);
            Assert.Equal(expected.Steps[0].GradientNorm, actual.Steps[0].GradientNorm);
            for (var i = 1; i < expected.Steps.Count; i++)
            {
                Assert.Equal(expected.Steps[i].Loss, actual.Steps[i].Loss, Math.ScaleB(1, -8) * expected.Steps[i].Loss);
            }

            return;
        }

        Assert.Equal(expected.Steps.Select(ShardedRun.Untimed), actual.Steps.Select(ShardedRun.Untimed));
        for (var b = 0; b < expected.Weights.Length; b++)
        {
            Assert.True(expected.Weights[b].AsSpan().SequenceEqual(actual.Weights[b]), $"{what}: block {b}");
        }
    }

    private static Outcome Run(ParallelRecipe parallel, OptimizeRecipe recipe)
    {
        using var stream = new CudaStream(KernelDevices.HostCuda);
        using var world = new SelfCollective();
        return Run(world, stream, parallel, recipe);
    }

    private static Outcome Run(ICollective world, CudaStream stream, ParallelRecipe parallel, OptimizeRecipe recipe)
    {
        using var parallelism = new Parallelism(world, parallel);
        var config = CudaStepTests.Config();
        using var optimizer = new Optimizer<BFloat16>(new Qwen2Parameters(config), recipe.AdamW, recipe.DecayAll, parallelism, stream);
        using var activations = new Activations<BFloat16>(config, recipe.MicroBatchTokens, recipe.HeadRows, recipe.Recompute, stream, training: true);
        optimizer.Allocate();
        activations.Allocate();
        RandomWeights.Fill(optimizer.Master, 1, 0.05);
        optimizer.PublishMaster(stream);
        TokenizedSample[] samples = [.. Enumerable.Range(0, 24).Select(
            s => new TokenizedSample($"{s}", [.. Enumerable.Range(0, 30).Select(t => ((s * 31) + (t * 7)) % config.VocabSize)], new TokenSpan(10, 30)))];
        var loop = new TrainLoop<BFloat16>(
            stream, optimizer, activations, samples, new StepPlan(samples.Length, recipe.BatchSamples, 1), 20, recipe, new GuardRecipe(false, 0, 8, 1),
            TrainProgress.Start);
        var steps = Enumerable.Range(0, 4).Select(_ => loop.Step(CancellationToken.None)!.Value).ToList();
        var whole = optimizer.GatherWhole(stream);
        float[][] weights = [.. whole.ByName.Select(p => Read(p.Tensor).Select(v => (float)v).ToArray())];
        optimizer.ReleaseWhole(whole);
        return new Outcome(steps, weights, [.. optimizer.GradientShards.ByName.Select(p => Read(p.Tensor))]);

        static TElement[] Read<TElement>(Tensor<TElement> tensor)
            where TElement : unmanaged
        {
            var values = new TElement[tensor.Count];
            tensor.CopyTo(values);
            return values;
        }
    }

    private sealed record Outcome(List<StepMetrics> Steps, float[][] Weights, float[][] Gradients);
}
