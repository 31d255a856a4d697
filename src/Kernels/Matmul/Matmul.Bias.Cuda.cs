using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Matmul
{
    private const int BiasMaxStretches = 64, BiasMinStretch = 64;
    private const int BiasThreads = 256, BiasTile = 256, BiasSharedBytes = 4 * 8 * BiasTile;

    private static readonly CudaKernel s_backwardBias = new(NativeSources.Of("Matmul"), "matmul_backward_bias");

    internal static CudaKernel[] BiasCudaKernels => [s_backwardBias];

    private static void BackwardBiasCuda<T>(CudaStream stream, Tensor<T> dy, Tensor<float> dbias, int m, int n, bool accumulate)
        where T : unmanaged
    {
        Expect.BFloat16<T>("Matmul.BackwardBias");
        var rowsPerBlock = Math.Max(BiasMinStretch, (m + BiasMaxStretches - 1) / BiasMaxStretches);
        var blocks = (m + rowsPerBlock - 1) / rowsPerBlock;
        var partial = Scratch.Of<float>(stream, blocks, n);
        var p = new BiasParams
        {
            Dy = (BFloat16*)Expect.On(stream, dy), Partial = Expect.On(stream, partial), Rows = m, Columns = n, RowsPerBlock = rowsPerBlock,
        };
        if (blocks > 0 && n > 0)
        {
            stream.Launch(s_backwardBias, new CudaGrid(blocks, (n + BiasTile - 1) / BiasTile), BiasThreads, p, BiasSharedBytes);
        }

        PartialSums.Add(stream, partial, dbias, accumulate);
    }

    private struct BiasParams
    {
        public BFloat16* Dy;
        public float* Partial;
        public int Rows, Columns, RowsPerBlock;
    }
}
