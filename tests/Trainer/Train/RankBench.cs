using System.Runtime.InteropServices;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>One rank of a training run of a small model, everything allocated: ranks are threads.</summary>
/// <typeparam name="T">compute storage</typeparam>
internal sealed class RankBench<T> : IDisposable
    where T : unmanaged
{
    public const int TotalSteps = 8;

    public static readonly Qwen2Config Config = new()
    {
        ModelType = "qwen2", HiddenSize = 32, NumHiddenLayers = 3, NumAttentionHeads = 4, NumKeyValueHeads = 2, HeadDim = 8,
        IntermediateSize = 50, VocabSize = 97, MaxPositionEmbeddings = 64, RmsNormEps = 1e-6, RopeTheta = 1e4,
        TieWordEmbeddings = false, AttentionBias = true,
    };

    private readonly Parallelism _parallelism;
    private readonly OptimizeRecipe _train;

    public RankBench(ICollective world, ParallelRecipe recipe, OptimizeRecipe? train = null, int localSize = 2)
    {
        _train = train ?? TrainLoopTests.Recipe() with { MicroBatchTokens = 48 };
        _parallelism = new Parallelism(world, recipe, localSize);
        Optimizer = new Optimizer<T>(new Qwen2Parameters(Config), _train.AdamW, _train.DecayAll, _parallelism, Stream);
        Activations = new Activations<T>(Config, _train.MicroBatchTokens, _train.HeadRows, _train.Recompute, Stream, training: true);
        Optimizer.Allocate();
        Activations.Allocate();
        RandomWeights.Fill(Optimizer.Master, 5, 0.05);
        Optimizer.PublishMaster(Stream);
        Start(TrainProgress.Start);
    }

    public CpuStream Stream { get; } = new(1);

    public Optimizer<T> Optimizer { get; }

    public Activations<T> Activations { get; }

    public TrainLoop<T> Loop { get; private set; } = null!;

    /// <summary>Runs <paramref name="body"/> on so many threads; the results by rank, or the first exception.</summary>
    public static TResult[] Run<TResult>(int size, Func<ICollective, TResult> body)
    {
        var worlds = ThreadCollective.CreateGroup(size);
        var results = new TResult[size];
        var failures = new List<Exception>();
        var threads = worlds.Select(world => new Thread(() =>
        {
            try
            {
                results[world.Rank] = body(world);
            }
            catch (Exception e)
            {
                lock (failures)
                {
                    failures.Add(e);
                }

                world.Abort($"rank {world.Rank}: {e.Message}");
            }
        })).ToList();
        threads.ForEach(t => t.Start());
        threads.ForEach(t => t.Join());
        Array.ForEach(worlds, w => w.Dispose());
        return failures.Count == 0 ? results : throw new AggregateException(failures);
    }

    public void Start(TrainProgress progress)
    {
        var samples = Samples();
        Loop = new TrainLoop<T>(
            Stream, Optimizer, Activations, samples, new StepPlan(samples.Count, _train.BatchSamples, seed: 9, _train.LastStep), TotalSteps, _train,
            new GuardRecipe(Skip: false, SpikeZ: 0, Window: 4, MaxSkips: 3), progress);
    }

    public CheckpointWriter Writer(CheckpointStore store, bool asynchronous)
    {
        var writer = TrainCheckpoint.Writer(store, Optimizer, Stream, asynchronous);
        writer.Allocate();
        return writer;
    }

    public void Steps(int count)
    {
        for (var i = 0; i < count; i++)
        {
            Loop.Step(CancellationToken.None);
        }
    }

    /// <summary>Bits of this rank's master and moments: a run of elements of each parameter, of how many in all.</summary>
    public List<(string Role, string Parameter, long Start, long Count, int[] Bits)> Bits() =>
    [
        .. from role in new[] { ("master", Optimizer.Master), ("m", Optimizer.FirstMoments), ("v", Optimizer.SecondMoments) }
           from held in role.Item2.ByName
           select (role.Item1, held.Parameter.Name, (long)held.Item2, (long)held.Parameter.Shape.Count, MemoryMarshal.Cast<float, int>(held.Item3.Span).ToArray()),
    ];

    public void Dispose()
    {
        Optimizer.Dispose();
        Activations.Dispose();
        _parallelism.Dispose();
        Stream.Dispose();
    }

    private static List<TokenizedSample> Samples()
    {
        var random = new Random(3);
        return [.. Enumerable.Range(0, 40).Select(i =>
        {
            var length = random.Next(3, 41);
            return new TokenizedSample(
                $"s{i}", [.. Enumerable.Range(0, length).Select(_ => random.Next(Config.VocabSize))], new TokenSpan(random.Next(1, length - 1), length));
        })];
    }
}
