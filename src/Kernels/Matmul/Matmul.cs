using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// The matrix products of a linear layer y = x·wᵀ + bias and of its gradients. Letters: M rows (packed tokens), N out features, K in
/// features. All tensors row-major and contiguous; row slices of larger tensors are welcome. Products and sums in fp32, one rounding at
/// the store, also when accumulating. Nothing is saved for backward but x. The result depends on shapes, values and
/// <see cref="Backend"/> only: any number of workers gives the same bits. On CUDA streams cuBLASLt computes them, bfloat16 only, and the
/// algorithms chosen by <see cref="Tuning"/> take the place of the backend.
/// </summary>
/// <remarks>
/// On processors with AVX-512 BF16, bfloat16 products go through its dot-product instruction, which reads subnormal elements as zero and
/// flushes subnormal sums to zero. The managed code does neither.
/// </remarks>
public static partial class Matmul
{
    /// <summary>
    /// Rounds a row count up by at most one part in 32, to one of 32 sizes per power of two (multiples of 16 below 512): a library's GEMM is
    /// compiled per shape, and batches whose rows are padded to such a count meet few shapes.
    /// </summary>
    public static int RoundRows(int rows)
    {
        var step = Math.Max(16, (int)(System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(1, rows)) / 64));
        return checked((rows + step - 1) / step * step);
    }

    /// <summary>The code that CPU streams use; for tests and comparisons. Set it while nothing runs.</summary>
    public static MatmulBackend Backend { get; set; }

    /// <summary>y = x·wᵀ + bias, or y += x·wᵀ + bias.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="x">[M, K]</param>
    /// <param name="w">[N, K]</param>
    /// <param name="bias">[N], or default for none</param>
    /// <param name="y">[M, N]; no input</param>
    /// <param name="accumulate">adds to y (a residual, say) before the one rounding</param>
    public static void Forward<T>(
        ComputeStream stream, Tensor<T> x, Tensor<T> w, Tensor<T> bias, Tensor<T> y, bool accumulate = false)
        where T : unmanaged => ForwardAny(stream, x, w, bias, y, accumulate, Rows.Batch);

    /// <summary>
    /// y = x·wᵀ + bias, or y += x·wᵀ + bias, for rows that have nothing to do with each other (one token of each of M sequences). On a CPU
    /// the bits of a row of y depend on that row of x, on w, bias and the old row alone: not on M, the row's place, its neighbours, the workers
    /// or <see cref="Backend"/>. On CUDA this is <see cref="Forward"/>: a library picks its algorithm by shape, so a caller that needs such
    /// rows there must always pass the same M.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="x">[M, K]</param>
    /// <param name="w">[N, K]</param>
    /// <param name="bias">[N], or default for none</param>
    /// <param name="y">[M, N]; no input</param>
    /// <param name="accumulate">adds to y (a residual, say) before the one rounding</param>
    /// <exception cref="ArgumentException">the shapes do not fit together</exception>
    /// <exception cref="NotSupportedException">elements other than bfloat16 on CUDA, other than float or bfloat16 on a CPU</exception>
    public static void ForwardRows<T>(
        ComputeStream stream, Tensor<T> x, Tensor<T> w, Tensor<T> bias, Tensor<T> y, bool accumulate = false)
        where T : unmanaged => ForwardAny(stream, x, w, bias, y, accumulate, Rows.Single);

    /// <summary>dx = dy·w, or dx += dy·w.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dy">[M, N]</param>
    /// <param name="w">[N, K]</param>
    /// <param name="dx">[M, K]; no input</param>
    /// <param name="accumulate">adds to dx before the one rounding</param>
    public static void BackwardInput<T>(ComputeStream stream, Tensor<T> dy, Tensor<T> w, Tensor<T> dx, bool accumulate = false)
        where T : unmanaged
    {
        var (m, n, k) = (RowsOf(dy), RowsOf(w), ColumnsOf(w));
        Expect.Shape(dy, m, n);
        Expect.Shape(dx, m, k);
        if (stream is CpuStream cpu)
        {
            BackwardInputCpu(cpu, dy, w, dx, m, n, k, accumulate);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Matmul.BackwardInput");
            BackwardInputCuda(cuda, dy.As<BFloat16>(), w.As<BFloat16>(), dx.As<BFloat16>(), m, n, k, accumulate);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>dw = dyᵀ·x, or dw += dyᵀ·x. The first micro-batch overwrites, so gradients need no zero pass; later ones add.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dy">[M, N]</param>
    /// <param name="x">[M, K]</param>
    /// <param name="dw">[N, K], fp32</param>
    /// <param name="accumulate">adds to dw</param>
    public static void BackwardWeight<T>(ComputeStream stream, Tensor<T> dy, Tensor<T> x, Tensor<float> dw, bool accumulate)
        where T : unmanaged
    {
        var (m, n, k) = (RowsOf(dy), ColumnsOf(dy), ColumnsOf(x));
        Expect.Shape(dy, m, n);
        Expect.Shape(x, m, k);
        Expect.Shape(dw, n, k);
        if (stream is CpuStream cpu)
        {
            BackwardWeightCpu(cpu, dy, x, dw, m, n, k, accumulate);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Matmul.BackwardWeight");
            BackwardWeightCuda(cuda, dy.As<BFloat16>(), x.As<BFloat16>(), dw, m, n, k, accumulate);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>dbias = the sum of dy over its rows, or dbias += it, in fp32. The order of the rows depends on the shape alone: one after
    /// the other on the CPU, in blocks on CUDA.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dy">[M, N]</param>
    /// <param name="dbias">[N], fp32</param>
    /// <param name="accumulate">adds to dbias</param>
    public static void BackwardBias<T>(ComputeStream stream, Tensor<T> dy, Tensor<float> dbias, bool accumulate)
        where T : unmanaged
    {
        var (m, n) = (RowsOf(dy), ColumnsOf(dy));
        Expect.Shape(dy, m, n);
        Expect.Shape(dbias, n);
        if (stream is CpuStream cpu)
        {
            BackwardBiasCpu(cpu, dy, dbias, m, n, accumulate);
        }
        else if (stream is CudaStream cuda)
        {
            BackwardBiasCuda(cuda, dy, dbias, m, n, accumulate);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Cost of <see cref="Forward"/> with elements of <paramref name="elementBytes"/> bytes.</summary>
    public static Cost ForwardCost(long m, long n, long k, int elementBytes, bool accumulate = false) =>
        new(elementBytes * ((m * k) + (n * k) + (m * n * (accumulate ? 2 : 1))), 2 * m * n * k);

    /// <summary>Cost of <see cref="BackwardInput"/> with elements of <paramref name="elementBytes"/> bytes.</summary>
    public static Cost BackwardInputCost(long m, long n, long k, int elementBytes, bool accumulate = false) =>
        new(elementBytes * ((m * n) + (n * k) + (m * k * (accumulate ? 2 : 1))), 2 * m * n * k);

    /// <summary>Cost of <see cref="BackwardWeight"/> with inputs of <paramref name="elementBytes"/> bytes an element.</summary>
    public static Cost BackwardWeightCost(long m, long n, long k, int elementBytes, bool accumulate) =>
        new((elementBytes * ((m * n) + (m * k))) + (sizeof(float) * n * k * (accumulate ? 2 : 1)), 2 * m * n * k);

    /// <summary>Cost of <see cref="BackwardBias"/> with inputs of <paramref name="elementBytes"/> bytes an element.</summary>
    public static Cost BackwardBiasCost(long m, long n, int elementBytes, bool accumulate) =>
        new((elementBytes * m * n) + (sizeof(float) * n * (accumulate ? 2 : 1)), m * n);

    private static void ForwardAny<T>(
        ComputeStream stream, Tensor<T> x, Tensor<T> w, Tensor<T> bias, Tensor<T> y, bool accumulate, Rows rows)
        where T : unmanaged
    {
        var (m, n, k) = (RowsOf(x), RowsOf(w), ColumnsOf(w));
        Expect.Shape(x, m, k);
        Expect.Shape(y, m, n);
        if (!bias.IsEmpty)
        {
            Expect.Shape(bias, n);
        }

        if (stream is CpuStream cpu)
        {
            ForwardCpu(cpu, x, w, bias, y, m, n, k, accumulate, rows);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Matmul.Forward");
            ForwardCuda(cuda, x.As<BFloat16>(), w.As<BFloat16>(), bias.As<BFloat16>(), y.As<BFloat16>(), m, n, k, accumulate);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    private static int RowsOf<T>(Tensor<T> tensor)
        where T : unmanaged => tensor.Shape.Rank == 2 ? tensor.Shape[0] : NotTwoAxes(tensor.Shape);

    private static int ColumnsOf<T>(Tensor<T> tensor)
        where T : unmanaged => tensor.Shape.Rank == 2 ? tensor.Shape[1] : NotTwoAxes(tensor.Shape);

    private static int NotTwoAxes(Shape shape) =>
        throw new ArgumentException($"matrix products take tensors of two axes; one has shape {shape}");
}
