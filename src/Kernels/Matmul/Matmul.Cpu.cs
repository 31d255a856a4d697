using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Matmul
{
    /// <summary>Up to this many rows, reading the weights is what takes the time, and the few-rows kernel reads them best.</summary>
    internal const int MostFewRows = 8;

    private static void ForwardCpu<T>(
        CpuStream stream, Tensor<T> x, Tensor<T> w, Tensor<T> bias, Tensor<T> y, int m, int n, int k, bool accumulate, Rows rows = Rows.Batch)
        where T : unmanaged
    {
        if (m == 0 || n == 0)
        {
            return;
        }

        var gemm = new Gemm<T, T>
        {
            A = x.Pointer, ARow = k, AColumn = 1,
            B = w.Pointer, BRow = 1, BColumn = k,
            Bias = bias.IsEmpty ? null : bias.Pointer,
            C = y.Pointer, CRow = n,
            M = m, N = n, K = k,
            Accumulate = accumulate,
        };
        var backend = rows == Rows.Single || (Backend == MatmulBackend.Auto && m <= MostFewRows) ? MatmulBackend.FewRows : Backend;
        if (rows == Rows.Block && backend != MatmulBackend.FewRows)
        {
            backend = BlockBackend(stream, gemm);
        }

        if (backend == MatmulBackend.FewRows)
        {
            FewRowsGemm.Run(stream, gemm);
        }
        else
        {
            Run(stream, gemm, backend);
        }
    }

    private static void BackwardInputCpu<T>(
        CpuStream stream, Tensor<T> dy, Tensor<T> w, Tensor<T> dx, int m, int n, int k, bool accumulate)
        where T : unmanaged
    {
        if (m == 0 || k == 0)
        {
            return;
        }

        var gemm = new Gemm<T, T>
        {
            A = dy.Pointer, ARow = n, AColumn = 1,
            B = w.Pointer, BRow = k, BColumn = 1,
            C = dx.Pointer, CRow = k,
            M = m, N = k, K = n,
            Accumulate = accumulate,
        };
        Run(stream, gemm, Backend);
    }

    private static void BackwardWeightCpu<T>(
        CpuStream stream, Tensor<T> dy, Tensor<T> x, Tensor<float> dw, int m, int n, int k, bool accumulate)
        where T : unmanaged
    {
        if (n == 0 || k == 0)
        {
            return;
        }

        var gemm = new Gemm<T, float>
        {
            A = dy.Pointer, ARow = 1, AColumn = n,
            B = x.Pointer, BRow = k, BColumn = 1,
            C = dw.Pointer, CRow = k,
            M = n, N = k, K = m,
            Accumulate = accumulate,
        };
        Run(stream, gemm, Backend);
    }

    private static void Run<TIn, TOut>(CpuStream stream, in Gemm<TIn, TOut> gemm, MatmulBackend backend)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var wanted = backend is MatmulBackend.OneDnn or MatmulBackend.Auto;
        if (wanted && gemm.K > 0 && OneDnnGemm.Supports<TIn>())
        {
            OneDnnGemm.Run(stream, gemm);
            return;
        }

        if (backend == MatmulBackend.OneDnn && gemm.K > 0)
        {
            throw new NotSupportedException($"oneDNN was asked for by name and cannot serve. {OneDnn.Description}");
        }

        ManagedGemm.Run(stream, gemm);
    }
}
