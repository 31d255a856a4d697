using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// Row-major tensors on a column-major library: memory that holds a row-major [R, C] holds its transpose [C, R] by columns, so
/// Y = X·Z becomes Yᵀ = Zᵀ·Xᵀ: cuBLASLt's A is our second factor and its B our first. bfloat16 in, fp32 sums, one rounding at the store.
/// </summary>
public static unsafe partial class Matmul
{
    /// <summary>How CUDA streams choose algorithms. Set it before the first product of a stream: plans that exist stay.</summary>
    public static MatmulTuning Tuning { get; set; } = new();

    /// <summary>Where a search keeps its winners unless told otherwise: the folder of compiled kernels.</summary>
    public static string DefaultCacheDirectory => ModuleCache.DefaultDirectory();

    private static void ForwardCuda(
        CudaStream stream,
        Tensor<BFloat16> x,
        Tensor<BFloat16> w,
        Tensor<BFloat16> bias,
        Tensor<BFloat16> y,
        int m,
        int n,
        int k,
        bool accumulate)
    {
        if (m == 0 || n == 0)
        {
            return;
        }

        if (k == 0)
        {
            Expect.That(bias.IsEmpty, "a bias without in features is not computed on CUDA");
            Clear(stream, y, accumulate);
            return;
        }

        var (px, pw, py) = (AddressOf(stream, x), AddressOf(stream, w), AddressOf(stream, y));
        var key = new CublasLtMatmulKey
        {
            M = n, N = m, K = k,
            TransposeA = true, TransposeB = false,     // w: [K, N] by columns, wanted [N, K]; x: [K, M] by columns
            TypeA = CublasLtType.BFloat16, TypeB = CublasLtType.BFloat16, TypeD = CublasLtType.BFloat16,
            HasBias = !bias.IsEmpty,
            Alignment = CublasLtMatmulKey.AlignmentOf(px | pw | py),
        };
        MatmulPlans.Of(stream).Run(key, pw, px, py, AddressOf(stream, bias), 0, 0, accumulate);
    }

    private static void BackwardInputCuda(
        CudaStream stream, Tensor<BFloat16> dy, Tensor<BFloat16> w, Tensor<BFloat16> dx, int m, int n, int k, bool accumulate)
    {
        if (m == 0 || k == 0)
        {
            return;
        }

        if (n == 0)
        {
            Clear(stream, dx, accumulate);
            return;
        }

        var (pdy, pw, pdx) = (AddressOf(stream, dy), AddressOf(stream, w), AddressOf(stream, dx));
        var key = new CublasLtMatmulKey
        {
            M = k, N = m, K = n,
            TransposeA = false, TransposeB = false,    // w: [K, N] by columns; dy: [N, M] by columns
            TypeA = CublasLtType.BFloat16, TypeB = CublasLtType.BFloat16, TypeD = CublasLtType.BFloat16,
            Alignment = CublasLtMatmulKey.AlignmentOf(pdy | pw | pdx),
        };
        MatmulPlans.Of(stream).Run(key, pw, pdy, pdx, 0, 0, 0, accumulate);
    }

    private static void BackwardWeightCuda(
        CudaStream stream, Tensor<BFloat16> dy, Tensor<BFloat16> x, Tensor<float> dw, int m, int n, int k, bool accumulate)
    {
        if (n == 0 || k == 0)
        {
            return;
        }

        if (m == 0)
        {
            Clear(stream, dw, accumulate);
            return;
        }

        var (pdy, px, pdw) = (AddressOf(stream, dy), AddressOf(stream, x), AddressOf(stream, dw));
        var key = new CublasLtMatmulKey
        {
            M = k, N = n, K = m,
            TransposeA = false, TransposeB = true,     // x: [K, M] by columns; dy: [N, M] by columns, wanted [M, N]
            TypeA = CublasLtType.BFloat16, TypeB = CublasLtType.BFloat16, TypeD = CublasLtType.Float32,
            Alignment = CublasLtMatmulKey.AlignmentOf(pdy | px | pdw),
        };
        MatmulPlans.Of(stream).Run(key, px, pdy, pdw, 0, 0, 0, accumulate);
    }

    /// <summary>The address of a tensor, which must be on the stream's device; 0 of an absent one.</summary>
    internal static nint AddressOf<T>(CudaStream stream, Tensor<T> tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
        where T : unmanaged => (nint)Expect.OnOrNull(stream, tensor, name);

    private static void Clear<T>(CudaStream stream, Tensor<T> output, bool accumulate)
        where T : unmanaged
    {
        if (!accumulate)
        {
            stream.Fill(output, 0);                    // an empty sum; all bits zero is +0 in both types
        }
    }
}
