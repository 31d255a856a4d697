using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>Gradients stay whole and are added up over micro-batches where backward writes them; one reduction ends the step.</summary>
internal sealed class WholeGradients : GradientReduction
{
    private readonly Tensor<BFloat16>[] _staging = new Tensor<BFloat16>[2];
    private readonly Arena? _arena;
    private readonly long[] _sequence;

    public WholeGradients(Parallelism parallelism, ParameterSet<float> gradients, ComputeStream? stream)
        : base(parallelism, gradients, new ShardSet<float>(gradients, parallelism.Shard))
    {
        _sequence = new long[Layout.Units.Count];
        if (parallelism.Recipe.ReduceBf16)
        {
            _arena = stream?.CreateArena("reduction buffers") ?? new Arena("reduction buffers");
            var largest = Layout.Units.Max(u => u.Elements);
            _staging = [_arena.Declare<BFloat16>(largest), _arena.Declare<BFloat16>(largest)];
        }
    }

    public override IEnumerable<Arena> Arenas => _arena is null ? [] : [_arena];

    public override bool Accumulates => Round > 0;

    public override void Open(ComputeStream stream, int unit)
    {
    }

    public override void Close(ComputeStream stream, int unit)
    {
    }

    public override void CloseEmpty(ComputeStream stream, int unit)
    {
        if (Round == 0)
        {
            Zero.Fill(stream, Gradients.Units[unit]);
        }
    }

    public override void Finish(ComputeStream stream)
    {
        if (_arena is not null)
        {
            FinishRounded(stream);
            return;
        }

        var (shards, replicas) = (Parallelism.Shards, Parallelism.Replicas);
        for (var u = 0; u < _sequence.Length; u++)
        {
            _sequence[u] = shards.ReduceScatter(stream, Gradients.Units[u], Shards.Units[u], Reduction.Sum);
        }

        for (var u = 0; u < _sequence.Length; u++)
        {
            shards.Wait(stream, _sequence[u]);
            _sequence[u] = replicas.AllReduce(stream, Shards.Units[u], Reduction.Sum);
        }

        for (var u = 0; u < _sequence.Length; u++)
        {
            replicas.Wait(stream, _sequence[u]);
        }
    }

    public override void Abandon(ComputeStream stream)
    {
    }

    /// <summary>Through two buffers: while one unit travels, the one before it is added up over replicas and widened.</summary>
    private void FinishRounded(ComputeStream stream)
    {
        for (var u = 0; u <= _sequence.Length; u++)
        {
            if (u < _sequence.Length)
            {
                var staged = _staging[u % 2].Rows(0, Layout.Units[u].Elements);
                Cast.Round(stream, Gradients.Units[u], staged);
                _sequence[u] = Parallelism.Shards.ReduceScatter(stream, staged, OwnPart(staged), Reduction.Sum);
            }

            if (u > 0)
            {
                var reduced = OwnPart(_staging[(u - 1) % 2].Rows(0, Layout.Units[u - 1].Elements));
                Parallelism.Shards.Wait(stream, _sequence[u - 1]);
                Parallelism.Replicas.Wait(stream, Parallelism.Replicas.AllReduce(stream, reduced, Reduction.Sum));
                Cast.Widen(stream, reduced, Shards.Units[u - 1]);
            }
        }
    }
}
