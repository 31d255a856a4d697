using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>How the gradients of all ranks' micro-batches become the sums of a step in <see cref="Shards"/>.</summary>
internal abstract class GradientReduction(Parallelism parallelism, ParameterSet<float> gradients, ShardSet<float> shards)
{
    /// <summary>What backward writes to: whole, or windows.</summary>
    public ParameterSet<float> Gradients => gradients;

    /// <summary>The sums of the step, once <see cref="Finish"/> has run.</summary>
    public ShardSet<float> Shards => shards;

    /// <summary>Memory beside the gradients themselves.</summary>
    public abstract IEnumerable<Arena> Arenas { get; }

    protected Parallelism Parallelism => parallelism;

    protected ShardLayout Layout => gradients.Layout;

    /// <summary>The round under way, from 0.</summary>
    protected int Round { get; private set; }

    /// <summary>Ranks that have a micro-batch in this round.</summary>
    protected int Present { get; private set; }

    /// <summary>Begins a round of micro-batches, one on each of the first <paramref name="present"/> ranks.</summary>
    public void BeginRound(int round, int present) => (Round, Present) = (round, present);

    /// <summary>Whether backward of this round adds to what <see cref="Gradients"/> holds.</summary>
    public virtual bool Accumulates => false;

    /// <summary>The unit's gradients are written from here on.</summary>
    public abstract void Open(ComputeStream stream, int unit);

    /// <summary>The unit's gradients of this micro-batch are complete.</summary>
    public abstract void Close(ComputeStream stream, int unit);

    /// <summary>This rank has no micro-batch: its gradients of the unit are zero.</summary>
    public abstract void CloseEmpty(ComputeStream stream, int unit);

    /// <summary>After the last round: completes the sums.</summary>
    public abstract void Finish(ComputeStream stream);

    /// <summary>The step is given up between two rounds: nothing may be under way afterwards.</summary>
    public abstract void Abandon(ComputeStream stream);

    /// <summary>This rank's shard of a whole unit.</summary>
    protected Tensor<T> OwnPart<T>(Tensor<T> unit)
        where T : unmanaged
    {
        var size = (int)(unit.Count / Layout.Shards);
        return unit.Rows(size * parallelism.Shard, size);
    }
}
