using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Fp8
{
    private const int Threads = 256, TileRows = 64, TileColumns = 128, SharedBytes = 8192, ReductionBytes = 128;
    private const int MostAmaxBlocks = 1024;           // enough to fill any device, few enough for one block to finish

    private static readonly CudaKernel s_amax = new(NativeSources.Of("Fp8"), "fp8_amax");
    private static readonly CudaKernel s_scale = new(NativeSources.Of("Fp8"), "fp8_scale");
    private static readonly CudaKernel s_quantize = new(NativeSources.Of("Fp8"), "fp8_quantize");

    internal static CudaKernel[] CudaKernels => [s_amax, s_scale, s_quantize];

    private static void QuantizeCuda(CudaStream stream, Tensor<BFloat16> x, Fp8Operand operand)
    {
        var from = Expect.On(stream, x);
        Expect.That((nint)from % 16 == 0, "x must start at a multiple of 16 bytes");
        var (values, transposed) = (operand.Values, operand.Transposed);
        var scale = Expect.On(stream, operand.Scale);
        var (rows, columns) = (x.Shape[0], x.Shape[1]);
        var vectors = x.Count / 8;
        var blocks = (int)Math.Clamp((vectors + Threads - 1) / Threads, 1, MostAmaxBlocks);
        var partial = Scratch.Of<float>(stream, blocks);
        stream.Launch(
            s_amax,
            new CudaGrid(blocks),
            Threads,
            new AmaxParams { X = from, Partial = partial.Pointer, Vectors = vectors },
            ReductionBytes);
        stream.Launch(
            s_scale,
            new CudaGrid(1),
            Threads,
            new ScaleParams
            {
                Partial = partial.Pointer,
                Scale = scale,
                Blocks = blocks,
                MantissaBits = MantissaBits(operand.Format),
            },
            ReductionBytes);
        stream.Launch(
            s_quantize,
            new CudaGrid((columns + TileColumns - 1) / TileColumns, (rows + TileRows - 1) / TileRows),
            Threads,
            new QuantizeParams
            {
                X = from,
                Scale = scale,
                Q = Expect.OnOrNull(stream, values),
                Transposed = Expect.OnOrNull(stream, transposed),
                Rows = rows,
                Columns = columns,
                MantissaBits = MantissaBits(operand.Format),
            },
            SharedBytes);
    }

    private struct AmaxParams
    {
        public BFloat16* X;
        public float* Partial;
        public long Vectors;
    }

    private struct ScaleParams
    {
        public float* Partial, Scale;
        public int Blocks, MantissaBits;
    }

    private struct QuantizeParams
    {
        public BFloat16* X;
        public float* Scale;
        public byte* Q, Transposed;
        public int Rows, Columns, MantissaBits;
    }
}
