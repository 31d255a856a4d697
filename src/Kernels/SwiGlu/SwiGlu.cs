using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// Gated activation: y = silu(gate) ∘ up, silu(g) = g·σ(g), σ(g) = 1/(1 + exp(−g)). Shazeer 2020, arXiv:2002.05202.
/// Shapes: T tokens, F intermediate; gate and up lie side by side as one projection writes them. Arithmetic in fp32, rounded at the
/// store; HF also rounds silu(gate) to bfloat16 before · up.
/// </summary>
public static partial class SwiGlu
{
    /// <summary>y = silu(gate) ∘ up.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="gateUp">[T, 2F], gate first</param>
    /// <param name="y">[T, F]</param>
    public static void Forward<T>(ComputeStream stream, Tensor<T> gateUp, Tensor<T> y)
        where T : unmanaged
    {
        var (rows, columns) = (y.Shape[0], y.Shape[1]);
        Expect.Shape(y, rows, columns);
        Expect.Shape(gateUp, rows, 2 * columns);
        if (stream is CpuStream cpu)
        {
            ForwardCpu(cpu, gateUp, y);
        }
        else if (stream is CudaStream cuda)
        {
            ForwardCuda(cuda, gateUp, y);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>dgate = dy ∘ up ∘ σ(gate)·(1 + gate·(1 − σ(gate))), dup = dy ∘ silu(gate); σ is computed again from gate.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dy">[T, F]</param>
    /// <param name="gateUp">[T, 2F], gate first</param>
    /// <param name="dgateUp">[T, 2F], overwritten; may be gateUp</param>
    public static void Backward<T>(ComputeStream stream, Tensor<T> dy, Tensor<T> gateUp, Tensor<T> dgateUp)
        where T : unmanaged
    {
        var (rows, columns) = (dy.Shape[0], dy.Shape[1]);
        Expect.Shape(dy, rows, columns);
        Expect.Shape(gateUp, rows, 2 * columns);
        Expect.Shape(dgateUp, rows, 2 * columns);
        if (stream is CpuStream cpu)
        {
            BackwardCpu(cpu, dy, gateUp, dgateUp);
        }
        else if (stream is CudaStream cuda)
        {
            BackwardCuda(cuda, dy, gateUp, dgateUp);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Reads gate and up, writes y. An exp and a division are counted as one operation each.</summary>
    public static Cost ForwardCost<T>(long rows, long columns)
        where T : unmanaged => new(3 * rows * columns * Unsafe.SizeOf<T>(), 5 * rows * columns);

    /// <summary>Reads dy, gate and up, writes dgate and dup.</summary>
    public static Cost BackwardCost<T>(long rows, long columns)
        where T : unmanaged => new(5 * rows * columns * Unsafe.SizeOf<T>(), 11 * rows * columns);
}
