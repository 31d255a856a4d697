using Xunit;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

public sealed class RecipeTests
{
    private const string Least = "model: {shapes: {hidden_size: 8}}\nstages:\n  - name: a\n";

    public static TheoryData<string> Recipes =>
        [.. Directory.GetFiles(Path.Combine(Goldens.RepositoryRoot, "recipes"), "*.yaml", SearchOption.AllDirectories)
            .Select(f => Path.GetRelativePath(Goldens.RepositoryRoot, f))];

    [Theory]
    [MemberData(nameof(Recipes))]
    public void Every_recipe_reads_and_its_resolved_text_reads_as_the_same(string file)
    {
        var recipe = TrainRecipe.Load(Path.Combine(Goldens.RepositoryRoot, file), []);
        var again = Parse(recipe.Resolved);
        Assert.Equal(recipe.Resolved, again.Resolved);
        Assert.Equal(recipe.Model, again.Model);
        Assert.Equal((recipe.Name, recipe.Seed, recipe.DType, recipe.TokenizerFrom), (again.Name, again.Seed, again.DType, again.TokenizerFrom));
        Assert.Equal(recipe.Stages.Count, again.Stages.Count);
        foreach (var (a, b) in recipe.Stages.Zip(again.Stages))
        {
            Assert.Equal((a.Name, a.Train, a.Guard, a.Eval, a.Checkpoint, a.Parallel), (b.Name, b.Train, b.Guard, b.Eval, b.Checkpoint, b.Parallel));
            Assert.Equal(a.Data.Files, b.Data.Files);
            Assert.Equal(a.Data with { Files = [] }, b.Data with { Files = [] });
        }
    }

    [Fact]
    public void The_published_run_is_written_down_as_it_was()
    {
        var recipe = TrainRecipe.Load(Path.Combine(Goldens.RepositoryRoot, "recipes", "z1-coder-7b.yaml"), []);
        Assert.Equal(151_667, recipe.Model.VocabRows);
        Assert.Equal(["stage1", "stage2"], recipe.Stages.Select(s => s.Name));
        Assert.All(recipe.Stages, stage =>
        {
            Assert.Equal(
                (3.0, 1024, 4, true, LastStep.Carry, 5e-5, 100, 0.0, 1.0),
                (stage.Train.Epochs, stage.Train.BatchSamples, stage.Train.MicroBatchSamples, stage.Train.MicroBatchMean, stage.Train.LastStep,
                    stage.Train.LearningRate, stage.Train.WarmupSteps, stage.Train.WeightDecay, stage.Train.Clip));
            Assert.Equal((PromptFormat.Alpaca, TokenizationRule.Published, 1280), (stage.Data.Format, stage.Data.Tokenization, stage.Data.MaxLength));
        });
    }

    [Fact]
    public void A_stage_inherits_every_key_that_it_does_not_state()
    {
        var recipe = Parse("""
            model: {shapes: {hidden_size: 8}}
            train: {lr: 1e-3, epochs: 2, warmup_steps: 7}
            data: {max_length: 99, files: [common.jsonl]}
            stages:
              - name: a
              - name: b
                train: {lr: 5e-4}
                data: {files: [b.jsonl, c.jsonl]}
            """);
        Assert.Equal((1e-3, 2.0, 7), (recipe.Stages[0].Train.LearningRate, recipe.Stages[0].Train.Epochs, recipe.Stages[0].Train.WarmupSteps));
        Assert.Equal((5e-4, 2.0, 7), (recipe.Stages[1].Train.LearningRate, recipe.Stages[1].Train.Epochs, recipe.Stages[1].Train.WarmupSteps));
        Assert.Equal(["common.jsonl"], recipe.Stages[0].Data.Files);
        Assert.Equal(["b.jsonl", "c.jsonl"], recipe.Stages[1].Data.Files);
        Assert.Equal(99, recipe.Stages[1].Data.MaxLength);
    }

    [Fact]
    public void The_parallel_section_says_how_state_is_spread()
    {
        Assert.Equal(new ParallelRecipe(), Parse(Least).Stages[0].Parallel);
        Assert.Equal(new ParallelRecipe(ShardStrategy.Zero2, ReducePerMicroBatch: true), Parse(Least, "parallel.strategy=zero2").Stages[0].Parallel);
        Assert.Equal(
            new ParallelRecipe(ShardStrategy.Hybrid, 4, Ordered: true, ReducePerMicroBatch: true, ReduceBf16: true, OffloadOptimizer: true, TimeoutSeconds: 0.5),
            Parse(Least, "parallel={strategy: hybrid, shard_size: 4, reduce: ordered, reduce_per: micro_batch, reduce_dtype: bf16, offload: optimizer, timeout_seconds: 0.5}")
                .Stages[0].Parallel);
        var published = TrainRecipe.Load(Path.Combine(Goldens.RepositoryRoot, "recipes", "z1-coder-7b.yaml"), []);
        Assert.All(published.Stages, s => Assert.Equal(new ParallelRecipe(ShardStrategy.Fsdp, ReducePerMicroBatch: true, ReduceBf16: true), s.Parallel));
    }

    [Fact]
    public void An_override_reaches_all_stages_or_one()
    {
        const string two = Least + "  - name: b\n    train: {epochs: 5}\n";
        var all = Parse(two, "train.lr=0.25");
        Assert.All(all.Stages, s => Assert.Equal(0.25, s.Train.LearningRate));
        var one = Parse(two, "stages.1.train.lr=0.5", "stages.1.train.batch_samples=1_000", "stages.0.data.files=[x, y]");
        Assert.Equal((5e-5, 0.5), (one.Stages[0].Train.LearningRate, one.Stages[1].Train.LearningRate));
        Assert.Equal((1024, 1000), (one.Stages[0].Train.BatchSamples, one.Stages[1].Train.BatchSamples));
        Assert.Equal(["x", "y"], one.Stages[0].Data.Files);
    }

    [Fact]
    public void An_override_holds_in_stages_that_state_the_key_themselves_unless_one_names_the_stage()
    {
        const string stated = Least + "    train: {lr: 0.1, epochs: 2}\n  - name: b\n    train: {lr: 0.2}\n  - name: c\ntrain: {lr: 0.3}\n";
        double[] Rates(params string[] set) => [.. Parse(stated, set).Stages.Select(s => s.Train.LearningRate)];
        Assert.Equal([0.1, 0.2, 0.3], Rates());
        Assert.Equal([0.5, 0.5, 0.5], Rates("train.lr=0.5"));
        Assert.Equal([0.5, 0.6, 0.5], Rates("stages.1.train.lr=0.6", "train.lr=0.5"));
        Assert.Equal([0.5, 0.6, 0.5], Rates("train.lr=0.5", "stages.1.train.lr=0.6"));
        Assert.Equal([0.7, 0.6, 0.7], Rates("train={lr: 0.7}", "stages.1.train.lr=0.6"));
        Assert.Equal([2.0, 3.0, 3.0], Parse(stated, "train.max_steps=7").Stages.Select(s => s.Train.Epochs));
        Assert.Equal([7L, 7L, 7L], Parse(stated, "train.max_steps=7").Stages.Select(s => s.Train.MaxSteps));
        Assert.Equal([9L, 9L, 9L], Parse(Parse(stated).Resolved, "train.max_steps=9").Stages.Select(s => s.Train.MaxSteps));
        Assert.Equal(["a", "b", "c"], Parse(stated, "name=z").Stages.Select(s => s.Name));
    }

    [Theory]
    [InlineData("train.warmup_stps=3", "'stages.0.train.warmup_stps'", "did you mean 'stages.0.train.warmup_steps'?")]
    [InlineData("modle.from=x", "'modle'", "did you mean 'model'?")]
    [InlineData("guard.spike=3", "'stages.0.guard.spike'", "did you mean 'stages.0.guard.spike_z'?")]
    [InlineData("zzzzzzzzzzzz=3", "'zzzzzzzzzzzz'", "known here: ")]
    [InlineData("train.lr=-1", "'stages.0.train.lr' is '-1'", "a number from 0")]
    [InlineData("train.lr=0,001", "'stages.0.train.lr' is '0,001'", "a number from 0")]
    [InlineData("train.batch_samples=1,000", "'stages.0.train.batch_samples' is '1,000'", "a whole number from 1")]
    [InlineData("train.micro_batch_samples=2000", "test.yaml: 'stages.0.train.micro_batch_samples' is 2000", "more than batch_samples 1024")]
    [InlineData("train.lr=NaN", "'stages.0.train.lr' is 'NaN'", "a number from 0")]
    [InlineData("train.lr=1e999", "'stages.0.train.lr'", "a number from 0")]
    [InlineData("train.batch_samples=1.5", "'stages.0.train.batch_samples' is '1.5'", "a whole number from 1")]
    [InlineData("train.batch_samples=99999999999", "'stages.0.train.batch_samples'", "a whole number from 1")]
    [InlineData("train.lr=", "'stages.0.train.lr' is empty", "a number")]
    [InlineData("train.lr=[1]", "'stages.0.train.lr'", "a single value")]
    [InlineData("train=3", "test.yaml: 'stages.0.train' is '3'", "a mapping", "--set stages.0.train.KEY=VALUE")]
    [InlineData("data.eval_fraction=1", "'stages.0.data.eval_fraction'", "0.999")]
    [InlineData("data.deduplicate=yes", "'stages.0.data.deduplicate' is 'yes'", "true or false")]
    [InlineData("data.format=markdown", "'stages.0.data.format' is 'markdown'", "chat, alpaca")]
    [InlineData("parallel.strategy=zero3", "'stages.0.parallel.strategy' is 'zero3'", "none, zero1, zero2, fsdp, hybrid")]
    [InlineData("parallel.stratgy=fsdp", "'stages.0.parallel.stratgy'", "did you mean 'stages.0.parallel.strategy'?")]
    [InlineData("parallel.shard_size=2", "test.yaml: 'stages.0.parallel.shard_size' is 2", "take hybrid")]
    [InlineData("parallel.reduce_per=micro_batch", "test.yaml: 'stages.0.parallel.reduce_per' is micro_batch", "none keeps gradients whole")]
    [InlineData("parallel={strategy: zero2, reduce_per: step}", "zero2 keeps no whole gradients", "take zero1")]
    [InlineData("parallel.reduce_dtype=fp16", "'stages.0.parallel.reduce_dtype' is 'fp16'", "fp32, bf16")]
    [InlineData("parallel.timeout_seconds=-1", "'stages.0.parallel.timeout_seconds' is '-1'", "a number from 0")]
    [InlineData("stages=[]", "'stages'", "at least one")]
    [InlineData("model={}", "test.yaml: 'model.from' is missing", "shapes")]
    [InlineData("model.shapes.head_dim=5", "test.yaml: 'model.shapes.head_dim' is 5", "even")]
    [InlineData("model.shapes.num_key_value_heads=3", "test.yaml: 'model.shapes.num_key_value_heads' is 3", "num_attention_heads 4")]
    [InlineData("name: x", "--set name: x", "a.b=value")]
    [InlineData("train.lr={", "--set", "YAML")]
    public void What_is_wrong_is_named_by_its_key(string set, params string[] parts)
    {
        var error = Assert.Throws<InvalidInputException>(() => Parse(Least, set));
        Assert.All(parts, part => Assert.Contains(part, error.Message));
        Assert.DoesNotContain('\n', error.Message);
    }

    [Fact]
    public void An_empty_override_takes_a_text_away()
    {
        Assert.Null(Parse(Least + "eval: {tasks: t.jsonl}\n", "eval.tasks=").Stages[0].Eval.Tasks);
        Assert.Equal("test", Parse("name: x\n" + Least, "name=").Name);
    }

    [Fact]
    public void Strings_keep_every_character_in_the_resolved_text()
    {
        const string name = "a \"quoted\" \\ name: #1, {x}";
        var recipe = Parse("name: 'a \"quoted\" \\ name: #1, {x}'\n" + Least);
        Assert.Equal(name, recipe.Name);
        Assert.Equal(name, Parse(recipe.Resolved).Name);
    }

    private static TrainRecipe Parse(string yaml, params string[] overrides) => TrainRecipe.From(RecipeTree.Parse("test.yaml", yaml, overrides), "test.yaml");
}
