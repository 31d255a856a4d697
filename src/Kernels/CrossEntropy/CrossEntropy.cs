using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// Softmax cross-entropy over rows of logits, alone and fused with the LM head. Shapes: R rows, V vocabulary, T tokens, D hidden.
/// Maximum, sum and loss in fp32; the sum over a row goes by blocks of 2,048 columns in their order (the maximum is found on the way:
/// Milakov and Gimelshein 2018, arXiv:1805.02867). The only rounding to bfloat16 is the store of the gradient.
/// </summary>
public static partial class CrossEntropy
{
    /// <summary>A target that has no loss and no gradient.</summary>
    public const int IgnoreIndex = -100;

    /// <summary>losses[r] = log Σ exp(logits[r]) − logits[r, targets[r]]; logits[r] ← (softmax(logits[r]) − onehot) · gradientScale.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="logits">[R, V], overwritten by its gradient; the row of an ignored target becomes zero</param>
    /// <param name="targets">[R], in [0, V) or <see cref="IgnoreIndex"/></param>
    /// <param name="losses">[R], nats; 0 where the target is ignored</param>
    /// <param name="gradientScale">usually 1 / loss tokens of the whole step</param>
    /// <exception cref="ArgumentOutOfRangeException">a target out of range; nothing has been written</exception>
    public static void Rows<T>(ComputeStream stream, Tensor<T> logits, Tensor<int> targets, Tensor<float> losses, float gradientScale)
        where T : unmanaged
    {
        CheckRows(logits, targets, losses);
        if (stream is CpuStream cpu)
        {
            CheckTargets(targets.Span, logits.Shape[1]);
            RowsCpu(cpu, logits, targets, losses, gradientScale);
        }
        else if (stream is CudaStream cuda)
        {
            RowsCuda(cuda, logits, targets, losses, gradientScale);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>losses[r] = log Σ exp(logits[r]) − logits[r, targets[r]]; the logits stay.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="logits">[R, V]</param>
    /// <param name="targets">[R], in [0, V) or <see cref="IgnoreIndex"/></param>
    /// <param name="losses">[R], nats; 0 where the target is ignored</param>
    /// <exception cref="ArgumentOutOfRangeException">a target out of range; nothing has been written</exception>
    public static void RowLosses<T>(ComputeStream stream, Tensor<T> logits, Tensor<int> targets, Tensor<float> losses)
        where T : unmanaged
    {
        CheckRows(logits, targets, losses);
        if (stream is CpuStream cpu)
        {
            CheckTargets(targets.Span, logits.Shape[1]);
            RowLossesCpu(cpu, logits, targets, losses);
        }
        else if (stream is CudaStream cuda)
        {
            RowLossesCuda(cuda, logits, targets, losses);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Refuses targets that no row of V logits has. A CPU stream checks in each call; for a device whoever uploads the targets
    /// does.</summary>
    /// <param name="targets">each in [0, V) or <see cref="IgnoreIndex"/></param>
    /// <param name="vocabulary">V</param>
    /// <exception cref="ArgumentOutOfRangeException">names the first row that is wrong</exception>
    public static void CheckTargets(ReadOnlySpan<int> targets, int vocabulary)
    {
        for (var r = 0; r < targets.Length; r++)
        {
            if ((uint)targets[r] >= (uint)vocabulary && targets[r] != IgnoreIndex)
            {
                FailTarget(targets, r, vocabulary);
            }
        }
    }

    /// <summary>Reads and writes the logits once. An exp is counted as one operation.</summary>
    public static Cost RowsCost<T>(long rows, long vocabulary)
        where T : unmanaged => new((2 * rows * vocabulary * Unsafe.SizeOf<T>()) + (8 * rows), 7 * rows * vocabulary);

    /// <summary>Reads the logits once.</summary>
    public static Cost RowLossesCost<T>(long rows, long vocabulary)
        where T : unmanaged => new((rows * vocabulary * Unsafe.SizeOf<T>()) + (8 * rows), 4 * rows * vocabulary);

    private static void CheckRows<T>(Tensor<T> logits, Tensor<int> targets, Tensor<float> losses)
        where T : unmanaged
    {
        Expect.Shape(logits, targets.Shape[0], logits.Shape[1]);
        Expect.Shape(targets, logits.Shape[0]);
        Expect.Shape(losses, logits.Shape[0]);
    }

    [DoesNotReturn]
    private static void FailTarget(ReadOnlySpan<int> targets, int row, int vocabulary) => throw new ArgumentOutOfRangeException(
        nameof(targets), $"the target of row {row} is {targets[row]}; it must be {IgnoreIndex} (no loss) or at least 0 and below {vocabulary}");
}
