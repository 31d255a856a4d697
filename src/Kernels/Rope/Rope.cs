using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// Rotary position embedding in the half-split ("rotate_half") form of HF Qwen2, in place: element i and element i + H/2 of a head turn
/// by the angle position · theta^(−2i/H). Su et al. 2021, arXiv:2104.09864. Shapes: T tokens, N query heads, K key/value heads, H head
/// dim. Arithmetic in fp32, one rounding per element at the store; HF rounds cos, sin and both products to bfloat16.
/// </summary>
public static partial class Rope
{
    /// <summary>(a, b) ← (a·cos − b·sin, b·cos + a·sin) for the leading heads of each row; the other heads (v) stay.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="qkv">[T, (N + 2K)·H], rotated in place</param>
    /// <param name="positions">[T], each in [0, table.MaxPositions); they restart at each packed sample</param>
    /// <param name="table">cos and sin</param>
    /// <param name="rotatedHeads">N + K</param>
    /// <param name="headDim">H</param>
    /// <exception cref="ArgumentOutOfRangeException">a position beyond the table; nothing has been written</exception>
    public static void Forward<T>(ComputeStream stream, Tensor<T> qkv, Tensor<int> positions, RopeTable table, int rotatedHeads, int headDim)
        where T : unmanaged => Rotate(stream, qkv, positions, table, rotatedHeads, headDim, 1f);

    /// <summary>The inverse rotation, which is the gradient: (a, b) ← (a·cos + b·sin, b·cos − a·sin).</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dqkv">[T, (N + 2K)·H], rotated in place</param>
    /// <param name="positions">[T], as in the forward pass</param>
    /// <param name="table">cos and sin</param>
    /// <param name="rotatedHeads">N + K</param>
    /// <param name="headDim">H</param>
    /// <exception cref="ArgumentOutOfRangeException">a position beyond the table; nothing has been written</exception>
    public static void Backward<T>(ComputeStream stream, Tensor<T> dqkv, Tensor<int> positions, RopeTable table, int rotatedHeads, int headDim)
        where T : unmanaged => Rotate(stream, dqkv, positions, table, rotatedHeads, headDim, -1f);

    /// <summary>Refuses positions that the table does not have. A CPU stream checks in each call; for a device whoever uploads the positions
    /// does.</summary>
    /// <param name="positions">each in [0, maxPositions)</param>
    /// <param name="maxPositions">of the table</param>
    /// <exception cref="ArgumentOutOfRangeException">names the first token whose position is wrong</exception>
    public static void CheckPositions(ReadOnlySpan<int> positions, int maxPositions)
    {
        for (var t = 0; t < positions.Length; t++)
        {
            if ((uint)positions[t] >= (uint)maxPositions)
            {
                FailPosition(positions, t, maxPositions);
            }
        }
    }

    /// <summary>Reads and writes the rotated heads, reads one row of cos and sin per token.</summary>
    public static Cost ForwardCost<T>(long tokens, long rotatedHeads, long headDim)
        where T : unmanaged => new(
            tokens * ((2 * rotatedHeads * headDim * Unsafe.SizeOf<T>()) + (4 * headDim) + 4), 3 * tokens * rotatedHeads * headDim);

    private static void Rotate<T>(
        ComputeStream stream, Tensor<T> qkv, Tensor<int> positions, RopeTable table, int rotatedHeads, int headDim, float direction)
        where T : unmanaged
    {
        Expect.Shape(positions, qkv.Shape[0]);
        Expect.Shape(qkv, qkv.Shape[0], qkv.Shape[1]);
        Expect.That(headDim == table.HeadDim, "headDim is not that of the table");
        Expect.That(rotatedHeads >= 0 && (long)rotatedHeads * headDim <= qkv.Shape[1], "rotatedHeads · headDim passes the row of qkv");
        if (stream is CpuStream cpu)
        {
            CheckPositions(positions.Span, table.MaxPositions);
            RotateCpu(cpu, qkv, positions, table, rotatedHeads, direction);
        }
        else if (stream is CudaStream cuda)
        {
            RotateCuda(cuda, qkv, positions, table, rotatedHeads, direction);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    [DoesNotReturn]
    private static void FailPosition(ReadOnlySpan<int> positions, int token, int count) => throw new ArgumentOutOfRangeException(
        nameof(positions), $"the position of token {token} is {positions[token]}; the table holds 0 to {count - 1}");
}
