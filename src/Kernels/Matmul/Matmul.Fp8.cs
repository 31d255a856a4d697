using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Matmul
{
    private const int OldestFp8Capability = 89;

    /// <summary>
    /// y = x·wᵀ + bias, or y += it, of 8-bit copies: sums in fp32, both scales applied to the sum, one rounding at the store. On CUDA it
    /// needs a device with 8-bit tensor cores (sm_89, sm_90a and later); the CPU multiplies the decoded values. Extents are multiples
    /// of 16.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="x">[M, K] as stored</param>
    /// <param name="w">[N, K] as stored</param>
    /// <param name="bias">[N], or default for none</param>
    /// <param name="y">[M, N]</param>
    /// <param name="accumulate">adds to y before the one rounding</param>
    public static void ForwardFp8<T>(
        ComputeStream stream, Fp8Operand x, Fp8Operand w, Tensor<T> bias, Tensor<T> y, bool accumulate = false)
        where T : unmanaged
    {
        var (m, n, k) = (x.RowCount, w.RowCount, w.ColumnCount);
        Expect.Shape(x.Values, m, k);
        Expect.Shape(w.Values, n, k);
        Expect.Shape(y, m, n);
        if (!bias.IsEmpty)
        {
            Expect.Shape(bias, n);
        }

        if (stream is CpuStream cpu)
        {
            var (xs, ws) = Decoded<T>(cpu, x.Values, x, w.Values, w);
            ForwardCpu(cpu, xs, ws, bias, y, m, n, k, accumulate);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Matmul.ForwardFp8");
            RunFp8(cuda, w, w.Values, x, x.Values, AddressOf(cuda, bias), AddressOf(cuda, y), CublasLtType.BFloat16, accumulate);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>dx = dy·w, or dx += it, of 8-bit copies; see <see cref="ForwardFp8"/>.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dy">[M, N] as stored</param>
    /// <param name="w">[N, K] transposed</param>
    /// <param name="dx">[M, K]</param>
    /// <param name="accumulate">adds to dx before the one rounding</param>
    public static void BackwardInputFp8<T>(ComputeStream stream, Fp8Operand dy, Fp8Operand w, Tensor<T> dx, bool accumulate = false)
        where T : unmanaged
    {
        var (m, n, k) = (dy.RowCount, w.RowCount, w.ColumnCount);
        Expect.Shape(dy.Values, m, n);
        Expect.Shape(w.Transposed, k, n);
        Expect.Shape(dx, m, k);
        if (stream is CpuStream cpu)
        {
            var (dys, ws) = Decoded<T>(cpu, dy.Values, dy, w.Transposed, w);
            ForwardCpu(cpu, dys, ws, default, dx, m, k, n, accumulate);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Matmul.BackwardInputFp8");
            RunFp8(cuda, w, w.Transposed, dy, dy.Values, 0, AddressOf(cuda, dx), CublasLtType.BFloat16, accumulate);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>dw = dyᵀ·x, or dw += it, of 8-bit copies; see <see cref="ForwardFp8"/>.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dy">[M, N] transposed</param>
    /// <param name="x">[M, K] transposed</param>
    /// <param name="dw">[N, K], fp32</param>
    /// <param name="accumulate">adds to dw</param>
    public static void BackwardWeightFp8(ComputeStream stream, Fp8Operand dy, Fp8Operand x, Tensor<float> dw, bool accumulate)
    {
        var (m, n, k) = (dy.RowCount, dy.ColumnCount, x.ColumnCount);
        Expect.Shape(dy.Transposed, n, m);
        Expect.Shape(x.Transposed, k, m);
        Expect.Shape(dw, n, k);
        if (stream is CpuStream cpu)
        {
            var (dys, xs) = Decoded<float>(cpu, dy.Transposed, dy, x.Transposed, x);
            ForwardCpu(cpu, dys, xs, default, dw, n, k, m, accumulate);
        }
        else if (stream is CudaStream cuda)
        {
            RunFp8(cuda, x, x.Transposed, dy, dy.Transposed, 0, AddressOf(cuda, dw), CublasLtType.Float32, accumulate);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Both operands have the summed axis contiguous: cuBLASLt's TN, the one layout that Hopper has for 8-bit floats.</summary>
    private static void RunFp8(
        CudaStream stream,
        Fp8Operand a,
        Tensor<byte> aCodes,
        Fp8Operand b,
        Tensor<byte> bCodes,
        nint bias,
        nint d,
        CublasLtType type,
        bool accumulate)
    {
        Expect.That(
            a.Format == Fp8Format.E4M3 || b.Format == Fp8Format.E4M3,
            "of two 8-bit operands at least one must be E4M3: cuBLASLt has no product of two E5M2");
        if (!stream.Device.IsHostCuda && stream.Device.Capability < OldestFp8Capability)
        {
            throw new NotSupportedException($"{stream.Device} has no 8-bit tensor cores; they begin with compute capability 8.9");
        }

        var (pa, pb) = (AddressOf(stream, aCodes), AddressOf(stream, bCodes));
        var key = new CublasLtMatmulKey
        {
            M = aCodes.Shape[0], N = bCodes.Shape[0], K = aCodes.Shape[1],
            TransposeA = true, TransposeB = false,
            TypeA = TypeOf(a.Format), TypeB = TypeOf(b.Format), TypeD = type,
            HasBias = bias != 0,
            Alignment = CublasLtMatmulKey.AlignmentOf(pa | pb | d),
        };
        MatmulPlans.Of(stream).Run(key, pa, pb, d, bias, AddressOf(stream, a.Scale), AddressOf(stream, b.Scale), accumulate);
    }

    private static CublasLtType TypeOf(Fp8Format format) => format == Fp8Format.E4M3 ? CublasLtType.E4M3 : CublasLtType.E5M2;

    /// <summary>The values of both operands. A code times a power of two has at most 4 significant bits: exact in both element
    /// types.</summary>
    private static (Tensor<T> First, Tensor<T> Second) Decoded<T>(
        CpuStream stream, Tensor<byte> first, Fp8Operand firstOf, Tensor<byte> second, Fp8Operand secondOf)
        where T : unmanaged
    {
        var (rows1, rows2, columns) = (first.Shape[0], second.Shape[0], first.Shape[1]);
        var all = Scratch.Of<T>(stream, rows1 + rows2, columns);
        var (a, b) = (all.Rows(0, rows1), all.Rows(rows1, rows2));
        Fp8.Dequantize(stream, first, firstOf, a);
        Fp8.Dequantize(stream, second, secondOf, b);
        return (a, b);
    }
}
