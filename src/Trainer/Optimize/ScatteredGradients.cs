using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>Gradients live in windows. A unit is reduce-scattered as soon as backward has completed it, beside the backward of the next, and this
/// rank's part is added to its shard before the window is written again. Replicas are added up once, when the step ends, in fp32.</summary>
internal sealed class ScatteredGradients : GradientReduction
{
    private readonly ParameterSet<BFloat16>? _staging;
    private readonly int[] _unit;
    private readonly long[] _sequence;
    private readonly bool[] _first;

    public ScatteredGradients(Parallelism parallelism, ParameterSet<float> windows, ShardSet<float> shards, ComputeStream? stream)
        : base(parallelism, windows, shards)
    {
        _unit = new int[Layout.Units.Count];
        Array.Fill(_unit, -1);
        _sequence = new long[_unit.Length];
        _first = new bool[_unit.Length];
        _staging = parallelism.Recipe.ReduceBf16 ? new ParameterSet<BFloat16>("reduction buffers", Layout, stream, windows: true) : null;
    }

    public override IEnumerable<Arena> Arenas => _staging is null ? [] : [_staging.Arena];

    public override void Open(ComputeStream stream, int unit) => Settle(stream, Layout.WindowOf(unit), keep: true);

    public override void Close(ComputeStream stream, int unit)
    {
        var window = Layout.WindowOf(unit);
        if (_staging is null)
        {
            var whole = Gradients.Units[unit];
            _sequence[window] = Parallelism.Shards.ReduceScatter(stream, whole, OwnPart(whole), Reduction.Sum);
        }
        else
        {
            var whole = _staging.Units[unit];
            Cast.Round(stream, Gradients.Units[unit], whole);
            _sequence[window] = Parallelism.Shards.ReduceScatter(stream, whole, OwnPart(whole), Reduction.Sum);
        }

        (_unit[window], _first[window]) = (unit, Round == 0);
    }

    public override void CloseEmpty(ComputeStream stream, int unit)
    {
        Open(stream, unit);
        Zero.Fill(stream, Gradients.Units[unit]);
        Close(stream, unit);
    }

    public override void Finish(ComputeStream stream)
    {
        SettleAll(stream, keep: true);
        var replicas = Parallelism.Replicas;
        for (var u = 0; u < _unit.Length; u++)
        {
            _sequence[u] = replicas.AllReduce(stream, Shards.Units[u], Reduction.Sum);
        }

        for (var u = 0; u < _unit.Length; u++)
        {
            replicas.Wait(stream, _sequence[u]);
        }
    }

    public override void Abandon(ComputeStream stream) => SettleAll(stream, keep: false);

    private void SettleAll(ComputeStream stream, bool keep)
    {
        for (var window = 0; window < _unit.Length; window++)
        {
            Settle(stream, window, keep);
        }
    }

    /// <summary>Waits for what was reduced in a window and adds this rank's part to its shard.</summary>
    private void Settle(ComputeStream stream, int window, bool keep)
    {
        var unit = _unit[window];
        if (unit < 0)
        {
            return;
        }

        Parallelism.Shards.Wait(stream, _sequence[window]);
        _unit[window] = -1;
        if (!keep)
        {
            return;
        }

        if (_staging is null)
        {
            Keep(stream, OwnPart(Gradients.Units[unit]), Shards.Units[unit], _first[window]);
        }
        else
        {
            Keep(stream, OwnPart(_staging.Units[unit]), Shards.Units[unit], _first[window]);
        }
    }

    private static void Keep<T>(ComputeStream stream, Tensor<T> part, Tensor<float> shard, bool first)
        where T : unmanaged
    {
        if (first)
        {
            Cast.Widen(stream, part, shard);
        }
        else
        {
            Cast.Add(stream, part, shard);
        }
    }
}
