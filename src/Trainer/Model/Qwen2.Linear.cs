using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>The four linear layers of a block, in bf16 or fp32, or by 8-bit products when the activations were declared for them.</summary>
public sealed partial class Qwen2<T>
{
    /// <summary>y = x·wᵀ + bias.</summary>
    private void Linear(ComputeStream stream, Activations<T> a, LinearLayer layer, Tensor<T> x, int weight, Tensor<T> bias, Tensor<T> y)
    {
        if (a.Fp8 is not { } fp8)
        {
            Matmul.Forward(stream, x, Weights[weight], bias, y);
            return;
        }

        var (x8, w8) = (fp8.Input(layer, x.Shape[0]), fp8.Weight(layer));
        Fp8.Quantize(stream, x, x8);
        Fp8.Quantize(stream, Weights[weight], w8);
        Matmul.ForwardFp8(stream, x8, w8, bias, y);
    }

    /// <summary>dx = dy·w.</summary>
    private void LinearBackwardInput(ComputeStream stream, Activations<T> a, LinearLayer layer, Tensor<T> dy, int weight, Tensor<T> dx)
    {
        if (a.Fp8 is not { } fp8)
        {
            Matmul.BackwardInput(stream, dy, Weights[weight], dx);
            return;
        }

        var (dy8, w8) = (fp8.Gradient(layer, dy.Shape[0]), fp8.Weight(layer));
        Fp8.Quantize(stream, dy, dy8);
        Fp8.Quantize(stream, Weights[weight], w8);
        Matmul.BackwardInputFp8(stream, dy8, w8, dx);
    }

    /// <summary>dw = dyᵀ·x, or += it. In 8 bits it takes the copy of dy that <see cref="LinearBackwardInput"/> of the same layer has just made.</summary>
    private static void LinearBackwardWeight(
        ComputeStream stream, Activations<T> a, LinearLayer layer, Tensor<T> dy, Tensor<T> x, Tensor<float> dw, bool accumulate)
    {
        if (a.Fp8 is not { } fp8)
        {
            Matmul.BackwardWeight(stream, dy, x, dw, accumulate);
            return;
        }

        var x8 = fp8.Input(layer, x.Shape[0]);
        Fp8.Quantize(stream, x, x8);
        Matmul.BackwardWeightFp8(stream, fp8.Gradient(layer, dy.Shape[0]), x8, dw, accumulate);
    }
}
