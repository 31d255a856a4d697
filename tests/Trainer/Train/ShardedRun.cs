using Z1Coder.Runtime;
using Z1Coder.Tests.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>What the ranks of a run saw: rank 0's steps, and the final weights put together from all shards.</summary>
internal sealed record ShardedResult(IReadOnlyList<StepMetrics> Steps, Dictionary<string, float[]> Master, Dictionary<string, float[]> Weights);

/// <summary>Training on N ranks that are threads, each with a CPU stream of one worker: a golden model's shapes and synthetic samples.</summary>
internal static class ShardedRun
{
    public const int Samples = 40, Longest = 40;

    private const int Vocabulary = 256;

    public static List<TokenizedSample> Data(int vocabulary = Vocabulary)
    {
        var random = new Random(3);
        return [.. Enumerable.Range(0, Samples).Select(i =>
        {
            var length = random.Next(3, Longest + 1);
            return new TokenizedSample(
                $"s{i}", [.. Enumerable.Range(0, length).Select(_ => random.Next(vocabulary) / (1 + random.Next(9)))],
                new TokenSpan(random.Next(1, length - 1), length));
        })];
    }

    /// <summary>Runs <paramref name="steps"/> steps on <paramref name="ranks"/> ranks.</summary>
    public static ShardedResult Of<T>(string model, int ranks, ParallelRecipe parallel, OptimizeRecipe recipe, int steps, int localSize = 1)
        where T : unmanaged
    {
        var results = new ShardedResult?[ranks];
        Ranks.Run(Ranks.Threads, ranks, world =>
        {
            using var rank = new ShardedRank<T>(model, world, parallel, recipe, localSize);
            var metrics = new List<StepMetrics>();
            for (var i = 0; i < steps; i++)
            {
                metrics.Add(rank.Step()!.Value);
            }

            results[world.Rank] = rank.Result(metrics);
        });
        return Merge(results!);
    }

    /// <summary>Every rank must have seen the same steps; weights are the union of the shards, and replicas must agree in every bit.</summary>
    public static ShardedResult Merge(ShardedResult[] ranks)
    {
        foreach (var rank in ranks)
        {
            Xunit.Assert.Equal(ranks[0].Steps.Select(Untimed), rank.Steps.Select(Untimed));
            foreach (var (name, values) in rank.Weights)
            {
                Xunit.Assert.True(values.AsSpan().SequenceEqual(ranks[0].Weights[name]), $"{name} differs between ranks");
            }
        }

        var master = ranks[0].Master.ToDictionary(p => p.Key, p => (float[])p.Value.Clone());
        foreach (var (name, values) in ranks.Skip(1).SelectMany(r => r.Master))
        {
            for (var i = 0; i < values.Length; i++)
            {
                Xunit.Assert.True(float.IsNaN(values[i]) || float.IsNaN(master[name][i]) || values[i].Equals(master[name][i]), $"{name}[{i}] differs between replicas");
                master[name][i] = float.IsNaN(master[name][i]) ? values[i] : master[name][i];
            }
        }

        return ranks[0] with { Master = master };
    }

    public static StepMetrics Untimed(StepMetrics step) => step with { Seconds = 0 };
}

/// <summary>One rank of a <see cref="ShardedRun"/>.</summary>
internal sealed class ShardedRank<T> : IDisposable
    where T : unmanaged
{
    private readonly CpuStream _stream = new(1);
    private readonly Parallelism _parallelism;
    private readonly Activations<T> _activations;
    private readonly OptimizeRecipe _recipe;
    private readonly GuardRecipe _guard;

    public ShardedRank(string model, ICollective world, ParallelRecipe parallel, OptimizeRecipe recipe, int localSize = 1, GuardRecipe? guard = null)
    {
        _recipe = recipe;
        var directory = Goldens.Model(model);
        var config = Qwen2Config.Load(directory);
        _parallelism = new Parallelism(world, parallel, localSize);
        Optimizer = new Optimizer<T>(new Qwen2Parameters(config), recipe.AdamW, recipe.DecayAll, _parallelism, _stream);
        _activations = new Activations<T>(config, recipe.MicroBatchTokens, recipe.HeadRows, recipe.Recompute, _stream, training: true);
        Optimizer.Allocate();
        _activations.Allocate();
        HfWeights.Load(directory, Optimizer.Master);
        Optimizer.PublishMaster(_stream);
        Samples = ShardedRun.Data(config.VocabSize);
        _guard = guard ?? new GuardRecipe(Skip: false, SpikeZ: 0, Window: 4, MaxSkips: 3);
        Restart();
    }

    public Optimizer<T> Optimizer { get; }

    public List<TokenizedSample> Samples { get; }

    public TrainLoop<T> Loop { get; private set; } = null!;

    public CpuStream Stream => _stream;

    /// <summary>A loop at step 0 over the weights as they are.</summary>
    public void Restart() => Loop = new TrainLoop<T>(
        _stream, Optimizer, _activations, Samples, new StepPlan(Samples.Count, _recipe.BatchSamples, seed: 9, _recipe.LastStep), 14, _recipe, _guard,
        TrainProgress.Start);

    public StepMetrics? Step(CancellationToken stop = default) => Loop.Step(stop);

    /// <summary>This rank's part: master elements that it does not hold are NaN.</summary>
    public ShardedResult Result(List<StepMetrics> steps)
    {
        var master = new Dictionary<string, float[]>();
        foreach (var parameter in Optimizer.Layout.Parameters.Blocks.SelectMany(b => b.Parts))
        {
            master[parameter.Name] = new float[parameter.Shape.Count];
            Array.Fill(master[parameter.Name], float.NaN);
        }

        foreach (var (parameter, start, tensor) in Optimizer.Master.ByName)
        {
            tensor.Span.CopyTo(master[parameter.Name].AsSpan((int)start));
        }

        var whole = Optimizer.GatherWhole(_stream);
        var weights = whole.ByName.ToDictionary(p => p.Parameter.Name, p => Floats(p.Tensor));
        Optimizer.ReleaseWhole(whole);
        return new ShardedResult(steps, master, weights);
    }

    public void Dispose()
    {
        Optimizer.Dispose();
        _activations.Dispose();
        _parallelism.Dispose();
        _stream.Dispose();
    }

    private static float[] Floats(Tensor<T> tensor)
    {
        var values = new float[tensor.Count];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = Lanes.Get(ref tensor.Origin, (nuint)i);
        }

        return values;
    }
}
