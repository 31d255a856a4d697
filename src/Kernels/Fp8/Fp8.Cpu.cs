using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Fp8
{
    private const int RowsPerItem = 16;

    private static void QuantizeCpu<T>(CpuStream stream, Tensor<T> x, Fp8Operand operand)
        where T : unmanaged
    {
        var blocks = (x.Shape[0] + RowsPerItem - 1) / RowsPerItem;
        var largest = Scratch.Of<float>(stream, blocks);
        stream.For(blocks, 4, new LargestJob<T>(x, largest));
        var amax = 0f;
        foreach (var value in largest.Span)
        {
            amax = Math.Max(amax, value);
        }

        var factor = FactorOf(amax, operand.Format);
        (operand.Scale.Span[0], operand.Scale.Span[1]) = (1 / factor, factor);
        stream.For(blocks, 4, new EncodeJob<T>(x, operand, factor));
    }

    /// <summary>values = the codes times their factor, exactly: what the CPU multiplies.</summary>
    internal static void Dequantize<T>(CpuStream stream, Tensor<byte> codes, Fp8Operand operand, Tensor<T> values)
        where T : unmanaged =>
        stream.For(codes.Shape[0], RowsPerItem, new DecodeJob<T>(codes, operand.Format, operand.Scale.Span[0], values));

    private readonly struct LargestJob<T>(Tensor<T> x, Tensor<float> largest) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            for (var block = begin; block < end; block++)
            {
                var amax = 0f;
                for (var row = block * RowsPerItem; row < Math.Min(x.Shape[0], (block + 1) * RowsPerItem); row++)
                {
                    foreach (ref var element in x.Row(row))
                    {
                        var magnitude = MathF.Abs(Lanes.Get(ref element, 0));
                        amax = float.IsFinite(magnitude) ? Math.Max(amax, magnitude) : amax;
                    }
                }

                largest.Span[block] = amax;
            }
        }
    }

    private readonly struct EncodeJob<T>(Tensor<T> x, Fp8Operand operand, float factor) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            for (var row = begin * RowsPerItem; row < Math.Min(x.Shape[0], end * RowsPerItem); row++)
            {
                var from = x.Row(row);
                for (var column = 0; column < from.Length; column++)
                {
                    var code = Encode(Lanes.Get(ref from[column], 0) * factor, operand.Format);
                    if (!operand.Values.IsEmpty)
                    {
                        operand.Values.Row(row)[column] = code;
                    }

                    if (!operand.Transposed.IsEmpty)
                    {
                        operand.Transposed.Row(column)[row] = code;
                    }
                }
            }
        }
    }

    private readonly struct DecodeJob<T>(Tensor<byte> codes, Fp8Format format, float factor, Tensor<T> values) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            for (var row = begin; row < end; row++)
            {
                var from = codes.Row(row);
                var to = values.Row(row);
                for (var column = 0; column < from.Length; column++)
                {
                    Lanes.Set(ref to[column], 0, Decode(from[column], format) * factor);
                }
            }
        }
    }
}
