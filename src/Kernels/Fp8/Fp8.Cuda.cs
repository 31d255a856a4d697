using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Fp8
{
    private const int Threads = 256, TileRows = 64, TileColumns = 128, SharedBytes = 8192, ReductionBytes = 128;
    private const int MostAmaxBlocks = 1024;           // enough to fill any device, few enough for one block to finish

    private static readonly CudaKernel s_amax = new(NativeSources.Of("Fp8"), "fp8_amax");
    private static readonly CudaKernel s_scale = new(NativeSources.Of("Fp8"), "fp8_scale");
    private static readonly CudaKernel s_quantize = new(NativeSources.Of("Fp8"), "fp8_quantize");

    private static void QuantizeCuda(CudaStream stream, Tensor<BFloat16> x, Fp8Operand operand)
    {
        Expect.That((nint)x.Pointer % 16 == 0, "x must start at a multiple of 16 bytes");
        var (rows, columns) = (x.Shape[0], x.Shape[1]);
        var vectors = x.Count / 8;
        var blocks = (int)Math.Clamp((vectors + Threads - 1) / Threads, 1, MostAmaxBlocks);
        var partial = Scratch.Of<float>(stream, blocks);
        stream.Launch(
            s_amax,
            new CudaGrid(blocks),
            Threads,
            new AmaxParams { X = x.Pointer, Partial = partial.Pointer, Vectors = vectors },
            ReductionBytes);
        stream.Launch(
            s_scale,
            new CudaGrid(1),
            Threads,
            new ScaleParams
            {
                Partial = partial.Pointer,
                Scale = operand.Scale.Pointer,
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
                X = x.Pointer,
                Scale = operand.Scale.Pointer,
                Q = operand.Values.IsEmpty ? null : operand.Values.Pointer,
                Transposed = operand.Transposed.IsEmpty ? null : operand.Transposed.Pointer,
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
