using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>The second phase of a sum over rows on a device: native/kernels/PartialSums.cu.</summary>
internal static unsafe class PartialSums
{
    private const int Columns = 32, Threads = 256, SharedBytes = 4 * Threads;

    private static readonly CudaKernel s_sum = new(NativeSources.Of("PartialSums"), "partial_sums");

    public static CudaKernel[] CudaKernels => [s_sum];

    /// <summary>y[c] = Σ over b of partial[b, c] in a fixed order, or y[c] += it.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="partial">[B, N]</param>
    /// <param name="y">[N]</param>
    /// <param name="accumulate">adds to y</param>
    public static void Add(CudaStream stream, Tensor<float> partial, Tensor<float> y, bool accumulate)
    {
        var (rows, columns) = (partial.Shape[0], partial.Shape[1]);
        if (columns > 0)
        {
            var p = new Params
            {
                Partial = Expect.On(stream, partial), Y = Expect.On(stream, y), Rows = rows, Columns = columns,
                Accumulate = accumulate ? 1 : 0,
            };
            stream.Launch(s_sum, new CudaGrid((columns + Columns - 1) / Columns), Threads, p, SharedBytes);
        }
    }

    private struct Params
    {
        public float* Partial, Y;
        public int Rows, Columns, Accumulate;
    }
}
