using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

public sealed class TrainPlanTests
{
    private static readonly Qwen2Config s_config = new()
    {
        ModelType = "qwen2", HiddenSize = 96, NumHiddenLayers = 3, NumAttentionHeads = 6, NumKeyValueHeads = 2, HeadDim = 16,
        IntermediateSize = 250, VocabSize = 777, MaxPositionEmbeddings = 64, RmsNormEps = 1e-6, RopeTheta = 1e4,
        TieWordEmbeddings = false, AttentionBias = true,
    };

    [Theory]
    [InlineData("fp32", Recompute.None, true)]
    [InlineData("fp32", Recompute.Block, false)]
    [InlineData("bf16", Recompute.None, false)]
    [InlineData("bf16", Recompute.Norm | Recompute.SwiGlu, true)]
    [InlineData("bf16", Recompute.Block, true)]
    public void The_plan_is_what_is_allocated(string dtype, Recompute recompute, bool tied)
    {
        var config = s_config with { TieWordEmbeddings = tied };
        var recipe = TrainLoopTests.Recipe() with { Recompute = recompute, MicroBatchTokens = 150, HeadRows = 20 };
        var stage = new StageRecipe(
            "s", new DatasetOptions { MaxLength = 100 }, recipe, new GuardRecipe(false, 0, 8, 1), new EvalRecipe(0, null, 0, 1),
            new CheckpointRecipe(0, 1));
        using var stream = new CpuStream(3);
        var plan = TrainPlan.Of(config, stage, dtype, stream);
        Assert.Equal(dtype == "fp32" ? Allocated<float>(config, recipe) : Allocated<BFloat16>(config, recipe), plan.Roles);
        Assert.Equal(plan.Roles.Sum(r => r.Bytes), plan.TotalBytes);

        // By hand: D = 96, q 96, k and v 32 each, F = 250, V = 777, three layers.
        long layer = 96 + (160 * 96) + 160 + (96 * 96) + 96 + (2 * 250 * 96) + (96 * 250);
        var parameters = (3 * layer) + (777 * 96 * (tied ? 1 : 2)) + 96;
        Assert.Equal(parameters, plan.Parameters);
        var sets = dtype == "fp32" ? 4 * 4 : 2 + (4 * 4);      // weights, gradients, two moments; in bf16 a master too
        var state = plan.Roles.Where(r => r.Role != "activations").Sum(r => r.Bytes);

        // A block begins at a multiple of 128 elements, a unit has a multiple of 1024: 25 blocks in five units.
        Assert.InRange(state, sets * parameters, sets * (parameters + (25 * 128) + (5 * 1024)));
        Assert.Equal(8 * 100, plan.TokensPerStep);
        Assert.Equal(TrainFlops.Of(config, 800, 800, 8 * 100 * 100), plan.FlopsPerStep);
        Assert.Equal((plan.FlopsPerStep / 1e9) + (plan.OptimizerBytesPerStep / 1e8), plan.SecondsPerStep(1e9, 1e8), 1e-9);
    }

    [Fact]
    public void Where_pass_at_1_is_measured_sharded_weights_are_planned_whole_too()
    {
        using var stream = new CpuStream(1);
        var stage = new StageRecipe(
            "s", new DatasetOptions { MaxLength = 64 }, TrainLoopTests.Recipe(), new GuardRecipe(false, 0, 8, 1), new EvalRecipe(0, null, 0, 1),
            new CheckpointRecipe(0, 1)) { Parallel = new ParallelRecipe(ShardStrategy.Fsdp) };
        Assert.DoesNotContain("gathered weights", Roles(stage));
        Assert.Contains("gathered weights", Roles(stage with { Eval = stage.Eval with { Tasks = "t.jsonl" } }));       // at the end, if nowhere else
        Assert.DoesNotContain("gathered weights", Roles(stage with { Eval = stage.Eval with { Tasks = "t.jsonl" }, Parallel = new ParallelRecipe() }));

        IEnumerable<string> Roles(StageRecipe s) =>
            TrainPlan.Of(s_config, s, "bf16", stream, Parallelism.Planned(s.Parallel, size: 2)).Roles.Select(r => r.Role);
    }

    private static List<(string Role, long Bytes)> Allocated<T>(Qwen2Config config, OptimizeRecipe recipe)
        where T : unmanaged
    {
        using var stream = new CpuStream(3);
        using var optimizer = new Optimizer<T>(new Qwen2Parameters(config), recipe.AdamW, recipe.DecayAll);
        using var activations = new Activations<T>(config, recipe.MicroBatchTokens, recipe.HeadRows, recipe.Recompute, stream, training: true);
        optimizer.Allocate();
        activations.Allocate();
        Assert.All(optimizer.Arenas.Append(activations.Arena), a => Assert.True(a.IsAllocated));
        return [.. optimizer.Arenas.Append(activations.Arena).Select(a => (a.Name, a.Bytes))];
    }
}
