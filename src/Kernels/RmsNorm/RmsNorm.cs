using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// RMS norm over the last axis: y = x · rstd · w, rstd = 1/√(mean(x²) + eps). Zhang and Sennrich 2019, arXiv:1910.07467.
/// Shapes: T tokens, D hidden. Sums in fp32 in a fixed order. HF Qwen2 rounds x · rstd to bfloat16 before · w; here only the store
/// rounds.
/// </summary>
public static partial class RmsNorm
{
    /// <summary>y = x · rstd · w. Saves rstd for the backward pass.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="x">[T, D]</param>
    /// <param name="w">[D]</param>
    /// <param name="y">[T, D]; may be x</param>
    /// <param name="rstd">[T]</param>
    /// <param name="eps">added to the mean square</param>
    public static void Forward<T>(ComputeStream stream, Tensor<T> x, Tensor<T> w, Tensor<T> y, Tensor<float> rstd, float eps)
        where T : unmanaged
    {
        var (rows, columns) = (x.Shape[0], x.Shape[1]);
        Expect.Shape(x, rows, columns);
        Expect.Shape(w, columns);
        Expect.Shape(y, rows, columns);
        Expect.Shape(rstd, rows);
        if (stream is CpuStream cpu)
        {
            ForwardCpu(cpu, x, w, y, rstd, eps);
        }
        else if (stream is CudaStream cuda)
        {
            ForwardCuda(cuda, x, w, y, rstd, eps);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>sum = x + residual, stored rounded; y = norm of the stored sum.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="x">[T, D]</param>
    /// <param name="residual">[T, D]</param>
    /// <param name="w">[D]</param>
    /// <param name="sum">[T, D]; may be residual or x</param>
    /// <param name="y">[T, D]; may be x, not sum</param>
    /// <param name="rstd">[T]</param>
    /// <param name="eps">added to the mean square</param>
    public static void ForwardResidual<T>(
        ComputeStream stream, Tensor<T> x, Tensor<T> residual, Tensor<T> w, Tensor<T> sum, Tensor<T> y, Tensor<float> rstd, float eps)
        where T : unmanaged
    {
        var (rows, columns) = (x.Shape[0], x.Shape[1]);
        Expect.Shape(x, rows, columns);
        Expect.Shape(residual, rows, columns);
        Expect.Shape(w, columns);
        Expect.Shape(sum, rows, columns);
        Expect.Shape(y, rows, columns);
        Expect.Shape(rstd, rows);
        if (stream is CpuStream cpu)
        {
            ForwardResidualCpu(cpu, x, residual, w, sum, y, rstd, eps);
        }
        else if (stream is CudaStream cuda)
        {
            ForwardResidualCuda(cuda, x, residual, w, sum, y, rstd, eps);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>
    /// With g = dy ∘ w: dx = rstd · (g − x · rstd² · mean(g ∘ x)) + dresidual, and dw += Σ over t of dy ∘ x · rstd. The sum over t goes
    /// by at most 64 row blocks that depend on T alone.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dy">[T, D]</param>
    /// <param name="x">[T, D], what was normalised: x of Forward, sum of ForwardResidual</param>
    /// <param name="w">[D]</param>
    /// <param name="rstd">[T], from the forward pass</param>
    /// <param name="dresidual">[T, D], the gradient that reaches x by other ways, or default for none</param>
    /// <param name="dx">[T, D], overwritten; may be dy, dresidual or x</param>
    /// <param name="dw">[D], accumulates</param>
    /// <param name="accumulate">false overwrites <paramref name="dw"/></param>
    public static void Backward<T>(
        ComputeStream stream,
        Tensor<T> dy,
        Tensor<T> x,
        Tensor<T> w,
        Tensor<float> rstd,
        Tensor<T> dresidual,
        Tensor<T> dx,
        Tensor<float> dw,
        bool accumulate)
        where T : unmanaged
    {
        var (rows, columns) = (x.Shape[0], x.Shape[1]);
        Expect.Shape(dy, rows, columns);
        Expect.Shape(x, rows, columns);
        Expect.Shape(w, columns);
        Expect.Shape(rstd, rows);
        if (!dresidual.IsEmpty)
        {
            Expect.Shape(dresidual, rows, columns);
        }

        Expect.Shape(dx, rows, columns);
        Expect.Shape(dw, columns);
        if (stream is CpuStream cpu)
        {
            BackwardCpu(cpu, dy, x, w, rstd, dresidual, dx, dw, accumulate);
        }
        else if (stream is CudaStream cuda)
        {
            BackwardCuda(cuda, dy, x, w, rstd, dresidual, dx, dw, accumulate);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Reads x and w, writes y and rstd.</summary>
    public static Cost ForwardCost<T>(long rows, long columns)
        where T : unmanaged => new((((2 * rows * columns) + columns) * Unsafe.SizeOf<T>()) + (4 * rows), 4 * rows * columns);

    /// <summary>Reads x, residual and w, writes sum, y and rstd.</summary>
    public static Cost ForwardResidualCost<T>(long rows, long columns)
        where T : unmanaged => new((((4 * rows * columns) + columns) * Unsafe.SizeOf<T>()) + (4 * rows), 5 * rows * columns);

    /// <summary>Reads dy, x, w, rstd and dresidual where there is one, writes dx and dw.</summary>
    public static Cost BackwardCost<T>(long rows, long columns, bool residual)
        where T : unmanaged => new(
            ((((residual ? 4 : 3) * rows * columns) + columns) * Unsafe.SizeOf<T>()) + (4 * rows) + (8 * columns),
            (residual ? 11 : 10) * rows * columns);
}
