using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>
/// The state of training, spread over ranks as the parallelism says, and its step: gradients of all ranks are reduced to this rank's shard,
/// clipped by the global norm, AdamW runs on the shard of fp32 master weights, and the compute weights (the master rounded to T) are gathered.
/// With T = float the master is the shard of the compute weights itself and takes no memory of its own. One rank is the same with one shard.
/// </summary>
/// <typeparam name="T">storage of the compute weights</typeparam>
public sealed class Optimizer<T> : IDisposable
    where T : unmanaged
{
    private readonly AdamWOptions _options;
    private readonly bool _decayAll, _ownsParallelism;
    private readonly WeightWindows<T>? _windows;
    private readonly GradientReduction _reduction;
    private readonly GradientNorm _norm;
    private readonly HostOptimizer<T>? _host;
    private readonly ShardPiece[][] _pieces;
    private readonly long[] _sequence;
    private readonly List<Arena> _arenas = [], _hostArenas = [];

    /// <summary>Declares everything for one rank; takes no memory yet.</summary>
    /// <param name="parameters">what there is to train</param>
    /// <param name="options">betas, eps, weight decay</param>
    /// <param name="decayAll">decay norms and biases too</param>
    /// <param name="stream">whose memory everything is; null takes the host's</param>
    public Optimizer(Qwen2Parameters parameters, AdamWOptions options, bool decayAll, ComputeStream? stream = null)
        : this(parameters, options, decayAll, Parallelism.Alone(), stream) => _ownsParallelism = true;

    /// <summary>Declares this rank's part of weights, gradients, master and moments; takes no memory yet.</summary>
    /// <param name="parameters">what there is to train</param>
    /// <param name="options">betas, eps, weight decay</param>
    /// <param name="decayAll">decay norms and biases too</param>
    /// <param name="parallelism">strategy, groups and ranks; the caller keeps it</param>
    /// <param name="stream">whose memory everything is; null takes the host's</param>
    public Optimizer(Qwen2Parameters parameters, AdamWOptions options, bool decayAll, Parallelism parallelism, ComputeStream? stream = null)
    {
        ArgumentNullException.ThrowIfNull(parallelism);
        (_options, _decayAll, Parallelism) = (options, decayAll, parallelism);
        Layout = new ShardLayout(parameters, parallelism.ShardCount, parallelism.Recipe.Ordered ? parallelism.ReplicaCount : 1);
        _pieces = [.. Enumerable.Range(0, Layout.Units.Count).Select(u => Layout.Pieces(u, Shard).ToArray())];
        _sequence = new long[_pieces.Length];

        Weights = new ParameterSet<T>(parallelism.ShardsWeights ? "weight windows" : "weights", Layout, stream, windows: parallelism.ShardsWeights);
        _arenas.Add(Weights.Arena);
        WeightShards = parallelism.ShardsWeights ? Own<T>("weight shards", stream) : new ShardSet<T>(Weights, Shard);
        var offload = parallelism.Recipe.OffloadOptimizer;
        Master = (offload ? null : WeightShards as ShardSet<float>) ?? Own<float>("master weights", stream, offload);

        var windows = parallelism.ReducesPerMicroBatch;
        Gradients = new ParameterSet<float>(windows ? "gradient windows" : "gradients", Layout, stream, windows);
        _arenas.Add(Gradients.Arena);
        _reduction = !windows ? new WholeGradients(parallelism, Gradients, stream)
            : parallelism.Recipe.Ordered ? new OrderedGradients(parallelism, Gradients, Own<float>("gradient shards", stream), stream)
            : new ScatteredGradients(parallelism, Gradients, Own<float>("gradient shards", stream), stream);
        _arenas.AddRange(_reduction.Arenas);
        FirstMoments = Own<float>("first moments", stream, offload);
        SecondMoments = Own<float>("second moments", stream, offload);
        if (offload)
        {
            _host = new HostOptimizer<T>(Layout, stream);
            _hostArenas.Add(_host.Arena);
        }

        _norm = new GradientNorm(parallelism, GradientShards, _pieces, stream);
        _arenas.AddRange(_norm.Arenas);
        _windows = parallelism.ShardsWeights && parallelism.HasRanks ? new WeightWindows<T>(Weights, WeightShards, parallelism.Shards) : null;
        Traffic = new OptimizerTraffic<T>(_windows, _reduction);
    }

    /// <summary>Ranks and strategy.</summary>
    public Parallelism Parallelism { get; }

    /// <summary>Where each block lies, and how it is cut.</summary>
    public ShardLayout Layout { get; }

    /// <summary>Which shard is this rank's.</summary>
    public int Shard => Parallelism.Shard;

    /// <summary>What the model computes with: whole, or windows that <see cref="Traffic"/> fills.</summary>
    public ParameterSet<T> Weights { get; }

    /// <summary>This rank's shard of the compute weights; a part of <see cref="Weights"/> where those are whole.</summary>
    public ShardSet<T> WeightShards { get; }

    /// <summary>This rank's shard of the fp32 weights; the truth that checkpoints hold.</summary>
    public ShardSet<float> Master { get; }

    /// <summary>What backward writes to: fp32, whole or windows.</summary>
    public ParameterSet<float> Gradients { get; }

    /// <summary>This rank's shard of the reduced gradients, once <see cref="Reduce"/> has run.</summary>
    public ShardSet<float> GradientShards => _reduction.Shards;

    /// <summary>AdamW's m.</summary>
    public ShardSet<float> FirstMoments { get; }

    /// <summary>AdamW's v.</summary>
    public ShardSet<float> SecondMoments { get; }

    /// <summary>For the model: gathers weights and reduces gradients as a pass goes along.</summary>
    public UnitTraffic Traffic { get; }

    /// <summary>Every arena, for plans.</summary>
    public IEnumerable<Arena> Arenas => _arenas.Concat(_hostArenas);

    /// <summary>Those of <see cref="Arenas"/> that are in host memory wherever the model is: master and moments that are offloaded.</summary>
    public IEnumerable<Arena> HostArenas => _hostArenas;

    /// <summary>Takes the memory; everything reads as zero.</summary>
    public void Allocate()
    {
        foreach (var arena in Arenas)
        {
            arena.Allocate();
        }
    }

    /// <summary>Rounds the master into the compute weights, on every rank: after loading or initialising it.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="applied">steps applied to this master: with stochastic rounding the rounding of the last one is repeated</param>
    public void PublishMaster(ComputeStream stream, long applied = 0)
    {
        for (var u = 0; u < _pieces.Length && !ReferenceEquals(Master, WeightShards); u++)
        {
            var weights = _host?.Weights(WeightShards, u) ?? WeightShards.Units[u];
            foreach (var piece in _pieces[u])
            {
                Publish(_host?.Cpu(stream) ?? stream, piece, weights.Rows(piece.ShardStart, piece.Count), applied);
            }

            _host?.Send(stream, WeightShards, u, _pieces[u]);
            if (_host is not null)
            {
                stream.Synchronize();                // the buffer is used again
            }
        }

        GatherWeights(stream);
    }

    /// <summary>Begins a round of micro-batches, one on each of the first <paramref name="present"/> ranks of the world.</summary>
    /// <param name="round">0 for the first of a step</param>
    /// <param name="present">ranks that have a micro-batch</param>
    /// <returns>whether backward must add to <see cref="Gradients"/> instead of overwriting them</returns>
    public bool BeginRound(int round, int present)
    {
        _reduction.BeginRound(round, present);
        return _reduction.Accumulates;
    }

    /// <summary>After the last round of a step, on every rank: <see cref="GradientShards"/> holds the sums over all micro-batches.</summary>
    public void Reduce(ComputeStream stream) => _reduction.Finish(stream);

    /// <summary>Gives the step up between two rounds, on every rank: nothing is under way afterwards.</summary>
    public void Abandon(ComputeStream stream) => _reduction.Abandon(stream);

    /// <summary>The global L2 norm of the reduced gradients, the same on every rank: not finite when any gradient is not.</summary>
    public double GradientNorm(ComputeStream stream) => Math.Sqrt(_norm.SumOfSquares(stream));

    /// <summary>One AdamW step on this rank's shard; the compute weights are gathered.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="step">1 for the first step: bias correction</param>
    /// <param name="learningRate">the rate of this step</param>
    /// <param name="gradientScale">the clip factor; gradients are multiplied by it on the way in</param>
    public void Step(ComputeStream stream, long step, double learningRate, double gradientScale)
    {
        var blocks = Layout.Parameters.Blocks;
        var where = _host?.Cpu(stream) ?? stream;
        for (var u = 0; u < _pieces.Length; u++)
        {
            var gradients = _host?.Receive(stream, GradientShards, u) ?? GradientShards.Units[u];
            var weights = _host?.Weights(WeightShards, u) ?? WeightShards.Units[u];
            foreach (var piece in _pieces[u])
            {
                var options = _options with
                {
                    LearningRate = learningRate,
                    WeightDecay = blocks[piece.Block].Decay || _decayAll ? _options.WeightDecay : 0,
                    StochasticRounding = _options.StochasticRounding + (ulong)piece.Block,
                };
                AdamW.Step(
                    where, gradients.Rows(piece.ShardStart, piece.Count), Master[piece], FirstMoments[piece], SecondMoments[piece],
                    weights.Rows(piece.ShardStart, piece.Count), options, step, (float)gradientScale, piece.BlockStart);
            }

            _host?.Send(stream, WeightShards, u, _pieces[u]);
        }

        GatherWeights(stream);
    }

    /// <summary>The whole compute weights, on every rank: <see cref="Weights"/> themselves, or gathered into memory taken for it, which the caller
    /// frees with <see cref="ReleaseWhole"/>. For decoding and export.</summary>
    /// <exception cref="InsufficientMemoryException">whole weights do not fit beside the training state</exception>
    public ParameterSet<T> GatherWhole(ComputeStream stream)
    {
        if (Weights.IsWhole)
        {
            return Weights;
        }

        var whole = new ParameterSet<T>("gathered weights", Layout, stream);
        whole.Arena.Allocate();
        GatherInto(stream, whole);
        return whole;
    }

    /// <summary>Frees what <see cref="GatherWhole"/> took.</summary>
    public void ReleaseWhole(ParameterSet<T> whole)
    {
        if (!ReferenceEquals(whole, Weights))
        {
            whole.Dispose();
        }
    }

    /// <summary>Fills a whole set with the compute weights, on every rank of the world.</summary>
    private void GatherInto(ComputeStream stream, ParameterSet<T> whole)
    {
        for (var u = 0; u < _sequence.Length; u++)
        {
            _sequence[u] = Parallelism.Shards.AllGather(stream, WeightShards.Units[u], whole.Units[u]);
        }

        WaitForShards(stream);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var arena in Arenas)
        {
            arena.Dispose();
        }

        _host?.Dispose();
        if (_ownsParallelism)
        {
            Parallelism.Dispose();
        }
    }

    /// <summary>After the shards have changed: whole weights are gathered, windows forget.</summary>
    private void GatherWeights(ComputeStream stream)
    {
        if (_windows is not null)
        {
            _windows.Forget(stream);
            return;
        }

        GatherInto(stream, Weights);
    }

    private void WaitForShards(ComputeStream stream)
    {
        foreach (var sequence in _sequence)
        {
            Parallelism.Shards.Wait(stream, sequence);
        }
    }

    private void Publish(ComputeStream where, in ShardPiece piece, Tensor<T> weights, long applied)
    {
        if (_options.StochasticRounding is { } seed && applied > 0)
        {
            Cast.RoundStochastic(where, Master[piece], weights, seed + (ulong)piece.Block, applied, piece.BlockStart);
        }
        else
        {
            Cast.Round(where, Master[piece], weights);
        }
    }

    private ShardSet<TElement> Own<TElement>(string role, ComputeStream? stream, bool onHost = false)
        where TElement : unmanaged
    {
        var set = new ShardSet<TElement>(role, Layout, Shard, stream, onHost);
        (onHost ? _hostArenas : _arenas).Add(set.Arena);
        return set;
    }
}
