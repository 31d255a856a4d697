using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// Quantises a matrix to 8-bit floats with one scale: q = round(x · f), f = 2^floor(log2(max / amax)), where amax is the largest finite |x|
/// of the current tensor; f = 1 where that is 0. Micikevicius et al. 2022, arXiv:2209.05433; formats of the Open Compute Project. f is a
/// power of two: scaling is exact, and the only rounding is the store (nearest, ties to even, 4 or 3 significant bits). NaN stays NaN; an
/// infinity becomes NaN in E4M3, which has none, and stays in E5M2; neither moves the scale of the rest. Letters: R rows, C columns.
/// </summary>
public static partial class Fp8
{
    /// <summary>Fills both copies of <paramref name="operand"/> that it has, and its scale.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="x">[R, C]; multiples of 16</param>
    /// <param name="operand">[R, C]</param>
    public static void Quantize<T>(ComputeStream stream, Tensor<T> x, Fp8Operand operand)
        where T : unmanaged
    {
        Expect.Shape(x, operand.RowCount, operand.ColumnCount);
        if (x.Count == 0)
        {
            return;
        }

        if (stream is CpuStream cpu)
        {
            QuantizeCpu(cpu, x, operand);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Fp8.Quantize");
            QuantizeCuda(cuda, x.As<BFloat16>(), operand);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Cost of <see cref="Quantize"/>: x is read twice, for its largest value and for its codes.</summary>
    public static Cost QuantizeCost(long rows, long columns, int elementBytes, int copies) =>
        new(rows * columns * ((2 * elementBytes) + copies), 4 * rows * columns);

    /// <summary>The value of a code, before the scale.</summary>
    public static float Decode(byte code, Fp8Format format)
    {
        var mantissaBits = MantissaBits(format);
        var bias = Bias(format);
        var (exponent, mantissa) = ((code & 0x7F) >> mantissaBits, code & ((1 << mantissaBits) - 1));
        var magnitude = (format, exponent, mantissa) switch
        {
            (Fp8Format.E4M3, 15, 7) => float.NaN,
            (Fp8Format.E5M2, 31, 0) => float.PositiveInfinity,
            (Fp8Format.E5M2, 31, _) => float.NaN,
            (_, 0, _) => MathF.ScaleB(mantissa, 1 - bias - mantissaBits),
            _ => MathF.ScaleB((1 << mantissaBits) + mantissa, exponent - bias - mantissaBits),
        };
        return (code & 0x80) != 0 ? -magnitude : magnitude;
    }

    /// <summary>The nearest code, ties to even; magnitudes beyond the largest value become it. NaN is 0x7F whatever its sign.</summary>
    public static byte Encode(float value, Fp8Format format)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        var (magnitude, sign) = (bits & 0x7FFFFFFF, (byte)((bits >> 24) & 0x80));
        if (magnitude >= 0x7F800000)
        {
            return (byte)(format == Fp8Format.E5M2 && magnitude == 0x7F800000 ? sign | 0x7C : 0x7F);
        }

        var (mantissaBits, bias) = (MantissaBits(format), Bias(format));
        uint code;
        if (magnitude < (uint)(128 - bias) << 23)
        {
            // below the smallest normal: the sum's last place is the spacing of the subnormals
            var anchor = (uint)(127 + 24 - bias - mantissaBits) << 23;
            var sum = BitConverter.UInt32BitsToSingle(magnitude) + BitConverter.UInt32BitsToSingle(anchor);
            code = BitConverter.SingleToUInt32Bits(sum) - anchor;
        }
        else
        {
            var drop = 23 - mantissaBits;
            code = ((magnitude + (1u << (drop - 1)) - 1 + ((magnitude >> drop) & 1)) >> drop) - ((uint)(127 - bias) << mantissaBits);
        }

        return (byte)(sign | Math.Min(code, format == Fp8Format.E4M3 ? 0x7Eu : 0x7Bu));
    }

    /// <summary>f for a tensor whose largest finite magnitude is <paramref name="amax"/>; f and 1 / f are normal numbers.</summary>
    public static float FactorOf(float amax, Fp8Format format)
    {
        if (amax == 0)
        {
            return 1;
        }

        // max = 1.75 · 2^8 or 1.75 · 2^15, amax = m · 2^e: the largest power of two with amax · f ≤ max
        var bits = BitConverter.SingleToUInt32Bits(amax);
        var exponent = (format == Fp8Format.E4M3 ? 8 : 15) - ((int)(bits >> 23) - 127) - ((bits & 0x7FFFFF) > 0x600000 ? 1 : 0);
        return MathF.ScaleB(1, Math.Clamp(exponent, -126, 126));
    }

    private static int MantissaBits(Fp8Format format) => format == Fp8Format.E4M3 ? 3 : 2;

    private static int Bias(Fp8Format format) => format == Fp8Format.E4M3 ? 7 : 15;
}
