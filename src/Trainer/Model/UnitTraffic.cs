using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// What a pass over the model says when it comes to a unit and leaves it, so that weights can be gathered just before they are read and
/// gradients reduced as soon as they are complete. This one does nothing: all weights are there, gradients stay where they are.
/// Every rank says the same in the same order, <see cref="Qwen2{T}.PassIdle"/> included.
/// </summary>
public class UnitTraffic
{
    /// <summary>For whole weights and whole gradients.</summary>
    public static UnitTraffic None { get; } = new();

    /// <summary>The unit's weights are read from here on.</summary>
    public virtual void Use(ComputeStream stream, int unit)
    {
    }

    /// <summary>The unit's weights are wanted soon; what is in their window is not wanted any more.</summary>
    public virtual void Prefetch(ComputeStream stream, int unit)
    {
    }

    /// <summary>The unit's gradients are written from here on.</summary>
    public virtual void Open(ComputeStream stream, int unit)
    {
    }

    /// <summary>The unit's gradients of this micro-batch are complete.</summary>
    public virtual void Close(ComputeStream stream, int unit)
    {
    }

    /// <summary>As <see cref="Open"/> and <see cref="Close"/> on a rank that has no micro-batch: its gradients are zero.</summary>
    public virtual void CloseEmpty(ComputeStream stream, int unit)
    {
    }
}
