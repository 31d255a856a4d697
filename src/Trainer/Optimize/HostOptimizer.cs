using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>
/// The way of an offloaded optimizer: a unit's gradients come to the host, the CPU updates master and moments there, the rounded weights go back.
/// Two buffers of each: the next unit's gradients are under way while this one is computed. On a CPU stream both sides are the same memory, and
/// the copies are all that offloading changes.
/// </summary>
internal sealed class HostOptimizer<T> : IDisposable
    where T : unmanaged
{
    private readonly Tensor<float>[] _gradients;
    private readonly Tensor<T>[] _weights;
    private CpuStream? _own;

    public HostOptimizer(ShardLayout layout, ComputeStream? stream)
    {
        const string Role = "offload buffers";
        Arena = stream?.CreateHostArena(Role) ?? new Arena(Role);
        var largest = Enumerable.Range(0, layout.Units.Count).Max(layout.ShardElements);
        _gradients = [Arena.Declare<float>(largest), Arena.Declare<float>(largest)];
        _weights = [Arena.Declare<T>(largest), Arena.Declare<T>(largest)];
    }

    public Arena Arena { get; }

    /// <summary>Where the optimizer's arithmetic runs: the stream itself, or a CPU stream of its own.</summary>
    public CpuStream Cpu(ComputeStream stream) => stream as CpuStream ?? (_own ??= new CpuStream());

    /// <summary>Gradients of a unit on the host; those of the next are asked for.</summary>
    public Tensor<float> Receive(ComputeStream stream, ShardSet<float> gradients, int unit)
    {
        if (unit == 0)
        {
            Ask(stream, gradients, 0);
        }

        stream.Synchronize();                    // this unit's gradients are here, the weights of the one before are gone
        if (unit + 1 < gradients.Units.Length)
        {
            Ask(stream, gradients, unit + 1);
        }

        return _gradients[unit % 2].Rows(0, (int)gradients.Units[unit].Count);
    }

    /// <summary>Where the rounded weights of a unit go on the host.</summary>
    public Tensor<T> Weights(ShardSet<T> weights, int unit) => _weights[unit % 2].Rows(0, (int)weights.Units[unit].Count);

    /// <summary>Sends the pieces of a unit's weights back.</summary>
    public void Send(ComputeStream stream, ShardSet<T> weights, int unit, ReadOnlySpan<ShardPiece> pieces)
    {
        foreach (var piece in pieces)
        {
            TensorCopy.ToDevice(stream, _weights[unit % 2].Rows(piece.ShardStart, piece.Count), weights[piece]);
        }
    }

    public void Dispose() => _own?.Dispose();

    private void Ask(ComputeStream stream, ShardSet<float> gradients, int unit)
    {
        var from = gradients.Units[unit];
        TensorCopy.ToHost(stream, from, _gradients[unit % 2].Rows(0, (int)from.Count));
    }
}
