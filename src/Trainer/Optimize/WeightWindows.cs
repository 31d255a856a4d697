using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>Sharded compute weights, gathered unit by unit into windows. A window is reused as soon as nobody reads it; what it holds is
/// remembered, so that backward begins with the layers that forward ended with, and embedding and head are gathered once a step.</summary>
internal sealed class WeightWindows<T>
    where T : unmanaged
{
    private readonly ParameterSet<T> _windows;
    private readonly ShardSet<T> _shards;
    private readonly ICollective _group;
    private readonly int[] _held;
    private readonly long[] _gathering;

    public WeightWindows(ParameterSet<T> windows, ShardSet<T> shards, ICollective group)
    {
        (_windows, _shards, _group) = (windows, shards, group);
        _held = new int[windows.Layout.Units.Count];
        _gathering = new long[_held.Length];
        Array.Fill(_held, -1);
        Array.Fill(_gathering, -1);
    }

    /// <summary>Starts to gather a unit unless its window holds it.</summary>
    public void Prefetch(ComputeStream stream, int unit)
    {
        var window = _windows.Layout.WindowOf(unit);
        if (_held[window] != unit)
        {
            Settle(stream, window);
            _gathering[window] = _group.AllGather(stream, _shards.Units[unit], _windows.Units[unit]);
            _held[window] = unit;
        }
    }

    /// <summary>The unit is whole for what is enqueued from here on.</summary>
    public void Use(ComputeStream stream, int unit)
    {
        Prefetch(stream, unit);
        Settle(stream, _windows.Layout.WindowOf(unit));
    }

    /// <summary>The shards have changed: nothing that windows hold is true any more.</summary>
    public void Forget(ComputeStream stream)
    {
        for (var window = 0; window < _held.Length; window++)
        {
            Settle(stream, window);
            _held[window] = -1;
        }
    }

    private void Settle(ComputeStream stream, int window)
    {
        if (_gathering[window] >= 0)
        {
            _group.Wait(stream, _gathering[window]);
            _gathering[window] = -1;
        }
    }
}
