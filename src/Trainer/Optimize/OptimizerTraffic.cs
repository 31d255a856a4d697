using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>What a pass says about units goes to the weights' windows, where there are any, and to the gradients' reduction.</summary>
internal sealed class OptimizerTraffic<T>(WeightWindows<T>? weights, GradientReduction gradients) : UnitTraffic
    where T : unmanaged
{
    public override void Use(ComputeStream stream, int unit) => weights?.Use(stream, unit);

    public override void Prefetch(ComputeStream stream, int unit) => weights?.Prefetch(stream, unit);

    public override void Open(ComputeStream stream, int unit) => gradients.Open(stream, unit);

    public override void Close(ComputeStream stream, int unit) => gradients.Close(stream, unit);

    public override void CloseEmpty(ComputeStream stream, int unit) => gradients.CloseEmpty(stream, unit);
}
