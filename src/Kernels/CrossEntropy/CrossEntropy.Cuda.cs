using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class CrossEntropy
{
    private const int Threads = 1024, RowThreads = 128, ScratchBytes = 128, SumScratchBytes = 256;

    private static readonly CudaKernel s_rows = new(NativeSources.Of("CrossEntropy"), "cross_entropy_rows");
    private static readonly CudaKernel s_rowLosses = new(NativeSources.Of("CrossEntropy"), "cross_entropy_row_losses");
    private static readonly CudaKernel s_scatter = new(NativeSources.Of("CrossEntropy"), "cross_entropy_scatter");
    private static readonly CudaKernel s_clear = new(NativeSources.Of("CrossEntropy"), "cross_entropy_clear");
    private static readonly CudaKernel s_spread = new(NativeSources.Of("CrossEntropy"), "cross_entropy_spread");
    private static readonly CudaKernel s_sum = new(NativeSources.Of("CrossEntropy"), "cross_entropy_sum");

    internal static CudaKernel[] CudaKernels => [s_rows, s_rowLosses, s_scatter, s_clear, s_spread, s_sum];

    private static void RowsCuda<T>(CudaStream stream, Tensor<T> logits, Tensor<int> targets, Tensor<float> losses, float gradientScale)
        where T : unmanaged => LaunchRows(stream, s_rows, "CrossEntropy.Rows", logits, targets, losses, gradientScale);

    private static void RowLossesCuda<T>(CudaStream stream, Tensor<T> logits, Tensor<int> targets, Tensor<float> losses)
        where T : unmanaged => LaunchRows(stream, s_rowLosses, "CrossEntropy.RowLosses", logits, targets, losses, 0);

    private static void LaunchRows<T>(
        CudaStream stream, CudaKernel kernel, string op, Tensor<T> logits, Tensor<int> targets, Tensor<float> losses, float gradientScale)
        where T : unmanaged
    {
        Expect.BFloat16<T>(op);
        var p = new RowsParams
        {
            Logits = (BFloat16*)Expect.On(stream, logits), Targets = Expect.On(stream, targets), Losses = Expect.On(stream, losses),
            Columns = logits.Shape[1], GradientScale = gradientScale,
        };
        if (logits.Shape[0] > 0)
        {
            stream.Launch(kernel, new CudaGrid(logits.Shape[0]), Threads, p, ScratchBytes);
        }
    }

    private static void ScatterCuda<T>(CudaStream stream, Tensor<T> from, Tensor<int> rows, Tensor<T> to)
        where T : unmanaged
    {
        Expect.BFloat16<T>("CrossEntropy.HeadForwardBackward");
        LaunchCopies(stream, s_scatter, (BFloat16*)Expect.On(stream, from), rows, to);
    }

    private static void ClearRowsCuda<T>(CudaStream stream, Tensor<int> rows, Tensor<T> tensor)
        where T : unmanaged
    {
        Expect.BFloat16<T>("CrossEntropy.HeadForwardBackward");
        LaunchCopies(stream, s_clear, null, rows, tensor);
    }

    private static void LaunchCopies<T>(CudaStream stream, CudaKernel kernel, BFloat16* from, Tensor<int> rows, Tensor<T> to)
        where T : unmanaged
    {
        var p = new ScatterParams
        {
            From = from, Rows = Expect.On(stream, rows), To = (BFloat16*)Expect.On(stream, to), Columns = to.Shape[1],
        };
        if (rows.Shape[0] > 0)
        {
            stream.Launch(kernel, new CudaGrid(rows.Shape[0]), RowThreads, p);
        }
    }

    private static void SpreadCuda(CudaStream stream, Tensor<float> losses, Tensor<int> rows, Tensor<float> perToken)
    {
        var count = rows.Shape[0];
        var p = new SpreadParams
        {
            Losses = Expect.On(stream, losses), Rows = Expect.On(stream, rows), PerToken = Expect.On(stream, perToken), Count = count,
        };
        if (count > 0)
        {
            stream.Launch(s_spread, new CudaGrid((count + RowThreads - 1) / RowThreads), RowThreads, p);
        }
    }

    private static void AddSumCuda(CudaStream stream, Tensor<float> losses, Tensor<double> lossSum, float scale)
    {
        var p = new SumParams
        {
            Losses = Expect.On(stream, losses), Sum = Expect.On(stream, lossSum), Count = losses.Shape[0], Scale = scale,
        };
        stream.Launch(s_sum, new CudaGrid(1), Threads, p, SumScratchBytes);
    }

    private struct RowsParams
    {
        public BFloat16* Logits;
        public int* Targets;
        public float* Losses;
        public int Columns;
        public float GradientScale;
    }

    private struct ScatterParams
    {
        public BFloat16* From;
        public int* Rows;
        public BFloat16* To;
        public int Columns;
    }

    private struct SpreadParams
    {
        public float* Losses;
        public int* Rows;
        public float* PerToken;
        public int Count;
    }

    private struct SumParams
    {
        public float* Losses;
        public double* Sum;
        public int Count;
        public float Scale;
    }
}
