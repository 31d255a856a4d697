using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>The Euclidean norm over all gradients and the clipping rule of torch.nn.utils.clip_grad_norm_.</summary>
public static partial class GlobalNorm
{
    /// <summary>
    /// Σ g² over every element of every tensor. Summed in double by chunks of 65,536 elements, the chunks' sums added in their order:
    /// the same bits on any number of workers. A device adds within and over chunks in a fixed order of its own. Not finite when an element
    /// is not. Waits for the result.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="gradients">any shapes</param>
    public static double SumOfSquares(ComputeStream stream, params ReadOnlySpan<Tensor<float>> gradients)
    {
        if (stream is CudaStream cuda)
        {
            return SumOfSquaresCuda(cuda, gradients);
        }

        if (stream is not CpuStream cpu)
        {
            Expect.NoDevice(stream);
            return double.NaN;
        }

        var sum = 0.0;
        foreach (var gradient in gradients)
        {
            sum = AddSquaresCpu(cpu, gradient, sum);
        }

        return sum;
    }

    /// <summary>
    /// sums[c] = Σ x² over the c-th run of <paramref name="chunk"/> elements, in double and in an order that depends on nothing but the chunk:
    /// chunks may lie on several ranks and be added by one, to the bits of a single rank.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="x">any shape</param>
    /// <param name="chunk">elements, a multiple of 4; the last chunk may be shorter</param>
    /// <param name="sums">one for each chunk, overwritten</param>
    public static void ChunkSums(ComputeStream stream, Tensor<float> x, int chunk, Tensor<double> sums)
    {
        Expect.That(chunk > 0 && chunk % 4 == 0, "a chunk has a multiple of 4 elements");
        Expect.That(sums.Count == (x.Count + chunk - 1) / chunk, "sums must have one element for each chunk");
        if (stream is CpuStream cpu)
        {
            ChunkSumsCpu(cpu, x, chunk, sums);
        }
        else if (stream is CudaStream cuda)
        {
            ChunkSumsCuda(cuda, x, chunk, sums);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>min(1, maxNorm / (norm + 1e-6)); NaN when norm is NaN, 0 when it is infinite: look at the norm before the step.</summary>
    /// <param name="norm">√ of <see cref="SumOfSquares"/> over all ranks</param>
    /// <param name="maxNorm">above 0</param>
    public static double ClipScale(double norm, double maxNorm) => Math.Min(1.0, maxNorm / (norm + 1e-6));

    /// <summary>Reads every element once.</summary>
    public static Cost SumOfSquaresCost(long elements) => new(4 * elements, 2 * elements);
}
