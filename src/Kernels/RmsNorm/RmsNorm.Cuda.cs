using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class RmsNorm
{
    // At most so many stretches of rows, each at least so long: their sums of dw are then small beside what they read.
    private const int MaxStretches = 1024, MinStretch = 16;

    private const int Threads = 128, ScratchBytes = 128;

    private static readonly CudaKernel s_forward = new(NativeSources.Of("RmsNorm"), "rms_norm_forward");
    private static readonly CudaKernel s_forwardResidual = new(NativeSources.Of("RmsNorm"), "rms_norm_forward_residual");
    private static readonly CudaKernel s_backward = new(NativeSources.Of("RmsNorm"), "rms_norm_backward");

    internal static CudaKernel[] CudaKernels => [s_forward, s_forwardResidual, s_backward];

    private static void ForwardCuda<T>(CudaStream stream, Tensor<T> x, Tensor<T> w, Tensor<T> y, Tensor<float> rstd, float eps)
        where T : unmanaged
    {
        Expect.BFloat16<T>("RmsNorm.Forward");
        var p = new ForwardParams
        {
            X = (BFloat16*)Expect.On(stream, x), W = (BFloat16*)Expect.On(stream, w), Y = (BFloat16*)Expect.On(stream, y),
            Rstd = Expect.On(stream, rstd), Columns = x.Shape[1], Eps = eps,
        };
        if (x.Shape[0] > 0)
        {
            stream.Launch(s_forward, new CudaGrid(x.Shape[0]), Threads, p, ScratchBytes);
        }
    }

    private static void ForwardResidualCuda<T>(
        CudaStream stream, Tensor<T> x, Tensor<T> residual, Tensor<T> w, Tensor<T> sum, Tensor<T> y, Tensor<float> rstd, float eps)
        where T : unmanaged
    {
        Expect.BFloat16<T>("RmsNorm.ForwardResidual");
        var p = new ForwardParams
        {
            X = (BFloat16*)Expect.On(stream, x), Residual = (BFloat16*)Expect.On(stream, residual), W = (BFloat16*)Expect.On(stream, w),
            Sum = (BFloat16*)Expect.On(stream, sum), Y = (BFloat16*)Expect.On(stream, y), Rstd = Expect.On(stream, rstd),
            Columns = x.Shape[1], Eps = eps,
        };
        if (x.Shape[0] > 0)
        {
            stream.Launch(s_forwardResidual, new CudaGrid(x.Shape[0]), Threads, p, ScratchBytes);
        }
    }

    private static void BackwardCuda<T>(
        CudaStream stream,
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
        Expect.BFloat16<T>("RmsNorm.Backward");
        var (rows, columns) = (x.Shape[0], x.Shape[1]);
        var rowsPerBlock = Math.Max(MinStretch, (rows + MaxStretches - 1) / MaxStretches);
        var blocks = (rows + rowsPerBlock - 1) / rowsPerBlock;
        var partial = Scratch.Of<float>(stream, blocks, columns);
        var p = new BackwardParams
        {
            Dy = (BFloat16*)Expect.On(stream, dy), X = (BFloat16*)Expect.On(stream, x), W = (BFloat16*)Expect.On(stream, w),
            Rstd = Expect.On(stream, rstd), Dresidual = (BFloat16*)Expect.OnOrNull(stream, dresidual), Dx = (BFloat16*)Expect.On(stream, dx),
            Partial = Expect.On(stream, partial), Rows = rows, Columns = columns, RowsPerBlock = rowsPerBlock,
        };
        if (blocks > 0)
        {
            stream.Launch(s_backward, new CudaGrid(blocks), Threads, p, ScratchBytes + (sizeof(float) * columns));
        }

        PartialSums.Add(stream, partial, dw, accumulate);
    }

    private struct ForwardParams
    {
        public BFloat16* X, Residual, W, Sum, Y;
        public float* Rstd;
        public int Columns;
        public float Eps;
    }

    private struct BackwardParams
    {
        public BFloat16* Dy, X, W;
        public float* Rstd;
        public BFloat16* Dresidual, Dx;
        public float* Partial;
        public int Rows, Columns, RowsPerBlock;
    }
}
