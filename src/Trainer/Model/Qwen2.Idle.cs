using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

public sealed partial class Qwen2<T>
{
    /// <summary>What a rank does while others run <see cref="ForwardBackward"/> and it has no micro-batch: the same traffic in the same order, zero
    /// gradients, no arithmetic.</summary>
    public void PassIdle(ComputeStream stream)
    {
        ForwardIdle(stream);
        _traffic.Use(stream, HeadUnit);
        _traffic.CloseEmpty(stream, HeadUnit);
        for (var l = _p.Layers.Length - 1; l >= 0; l--)
        {
            _traffic.Use(stream, ShardLayout.Layer(l));
            _traffic.CloseEmpty(stream, ShardLayout.Layer(l));
            LeaveBackward(stream, l);
        }

        _traffic.CloseEmpty(stream, ShardLayout.Embedding);
    }

    /// <summary>As <see cref="PassIdle"/>, while others run <see cref="Forward"/> or <see cref="Loss"/>.</summary>
    public void ForwardIdle(ComputeStream stream)
    {
        BeginForward(stream);
        for (var l = 0; l < _p.Layers.Length; l++)
        {
            _traffic.Use(stream, l + 1 < _p.Layers.Length ? ShardLayout.Layer(l + 1) : HeadUnit);
            LeaveForward(stream, l);
        }
    }
}
