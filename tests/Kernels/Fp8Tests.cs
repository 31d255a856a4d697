using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>8-bit copies and their products against the formats' definitions, in double.</summary>
[Collection("hostcuda")]
public sealed class Fp8Tests
{
    public static TheoryData<string, Fp8Format> Cases()
    {
        var cases = new TheoryData<string, Fp8Format>();
        foreach (var format in Enum.GetValues<Fp8Format>())
        {
            cases.Add("cpu", format);
            cases.Add("hostcuda", format);
        }

        return cases;
    }

    [Theory]
    [InlineData(Fp8Format.E4M3, 0x7E, 448)]
    [InlineData(Fp8Format.E4M3, 0x08, 0.015625)]               // 2^-6, the smallest normal
    [InlineData(Fp8Format.E4M3, 0x01, 0.001953125)]            // 2^-9, the smallest
    [InlineData(Fp8Format.E4M3, 0xB8, -1)]
    [InlineData(Fp8Format.E4M3, 0x80, 0)]
    [InlineData(Fp8Format.E5M2, 0x7B, 57344)]
    [InlineData(Fp8Format.E5M2, 0x04, 6.103515625e-05)]        // 2^-14
    [InlineData(Fp8Format.E5M2, 0x01, 1.52587890625e-05)]      // 2^-16
    [InlineData(Fp8Format.E5M2, 0x7C, double.PositiveInfinity)]
    [InlineData(Fp8Format.E5M2, 0xC2, -3)]
    public void Codes_mean_what_the_standard_says(Fp8Format format, byte code, double value)
    {
        Assert.Equal(value, Fp8.Decode(code, format));
        Assert.Equal(value, Value(code, format));
    }

    [Theory]
    [InlineData(Fp8Format.E4M3)]
    [InlineData(Fp8Format.E5M2)]
    public void Every_bfloat16_becomes_the_nearest_code(Fp8Format format)
    {
        for (var bits = 0; bits <= ushort.MaxValue; bits++)
        {
            var value = (float)BFloat16.FromBits((ushort)bits);
            Assert.Equal(Nearest(value, format), Fp8.Encode(value, format));
        }
    }

    [Theory]
    [InlineData(Fp8Format.E4M3)]
    [InlineData(Fp8Format.E5M2)]
    public void Halfway_values_go_to_the_even_code_and_their_neighbours_do_not(Fp8Format format)
    {
        var largest = format == Fp8Format.E4M3 ? 0x7E : 0x7B;
        for (byte code = 0; code < largest; code++)
        {
            var middle = (float)((Value(code, format) + Value((byte)(code + 1), format)) / 2);
            Assert.Equal(code % 2 == 0 ? code : code + 1, Fp8.Encode(middle, format));
            Assert.Equal(code, Fp8.Encode(MathF.BitDecrement(middle), format));
            Assert.Equal(code + 1, Fp8.Encode(MathF.BitIncrement(middle), format));
            Assert.Equal((code + 1) | 0x80, Fp8.Encode(-MathF.BitIncrement(middle), format));
        }

        Assert.Equal(largest, Fp8.Encode(float.MaxValue, format));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Both_copies_hold_the_rounded_values_under_the_largest_scale(string device, Fp8Format format)
    {
        using var bench = new KernelBench(device);
        foreach (var (rows, columns) in new[] { (16, 16), (48, 16), (16, 144), (80, 272), (64, 128) })
        {
            foreach (var magnitude in new[] { 1f, 1.75f, MathF.ScaleB(1, 40), MathF.ScaleB(1, -40) })
            {
                Check(bench, bench.Input<BFloat16>(new(rows, columns), magnitude), format);
            }

            Check(bench, bench.Rows<BFloat16>(rows, columns), format);
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Zeros_have_scale_one_and_what_is_not_finite_stays_visible_alone(string device, Fp8Format format)
    {
        using var bench = new KernelBench(device);
        var x = bench.Input<BFloat16>(new(16, 32), 0);
        Assert.Equal([1f, 1f], Check(bench, x, format));

        x = bench.Input<BFloat16>(new(16, 32));
        x.Row(3)[4] = (BFloat16)float.NaN;
        x.Row(5)[31] = (BFloat16)float.NegativeInfinity;
        Check(bench, x, format);
        x = bench.Output<BFloat16>(new(16, 16));
        Assert.Equal([1f, 1f], Check(bench, x, format));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void One_copy_alone_is_enough(string device, Fp8Format format)
    {
        using var bench = new KernelBench(device);
        var x = bench.Input<BFloat16>(new(48, 80));
        Check(bench, x, format, transposed: false);
        Check(bench, x, format, values: false);
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("hostcuda")]
    public void Products_are_those_of_the_decoded_values(string device)
    {
        using var bench = new KernelBench(device);
        foreach (var (m, n, k) in new[] { (16, 16, 16), (32, 48, 80), (112, 16, 64) })
        {
            foreach (var accumulate in new[] { false, true })
            {
                var arena = bench.Stream.CreateArena("8-bit operands");
                var x8 = Fp8Operand.Declare(arena, m, k, Fp8Format.E4M3);
                var w8 = Fp8Operand.Declare(arena, n, k, Fp8Format.E4M3);
                var dy8 = Fp8Operand.Declare(arena, m, n, Fp8Format.E5M2);
                arena.Allocate();
                Fp8.Quantize(bench.Stream, bench.Put(bench.Input<BFloat16>(new(m, k))), x8);
                Fp8.Quantize(bench.Stream, bench.Put(bench.Input<BFloat16>(new(n, k), 8)), w8);
                Fp8.Quantize(bench.Stream, bench.Put(bench.Input<BFloat16>(new(m, n), 0.25f)), dy8);
                var (x, w, dy) = (Decoded(bench, x8), Decoded(bench, w8), Decoded(bench, dy8));
                var bias = bench.Input<BFloat16>(new(n));

                var y = accumulate ? bench.Input<BFloat16>(new(m, n)) : bench.Output<BFloat16>(new(m, n));
                var old = accumulate ? KernelBench.Doubles(y) : null;
                var to = bench.Put(y);
                Matmul.ForwardFp8(bench.Stream, x8, w8, bench.Put(bias), to, accumulate);
                bench.Get(to, y);
                new MatmulOracle(x, w, m, n, k, k, 1, 1, k).Compare(y, old, KernelBench.Doubles(bias));

                var dx = accumulate ? bench.Input<BFloat16>(new(m, k)) : bench.Output<BFloat16>(new(m, k));
                old = accumulate ? KernelBench.Doubles(dx) : null;
                to = bench.Put(dx);
                Matmul.BackwardInputFp8(bench.Stream, dy8, w8, to, accumulate);
                bench.Get(to, dx);
                new MatmulOracle(dy, w, m, k, n, n, 1, k, 1).Compare(dx, old, null);

                var dw = accumulate ? bench.Input<float>(new(n, k)) : bench.Output<float>(new(n, k));
                old = accumulate ? KernelBench.Doubles(dw) : null;
                var toDw = bench.Put(dw);
                Matmul.BackwardWeightFp8(bench.Stream, dy8, x8, toDw, accumulate);
                bench.Get(toDw, dw);
                new MatmulOracle(dy, x, n, k, m, 1, n, k, 1).Compare(dw, old, null);
                arena.Dispose();
            }
        }
    }

    [Fact]
    public void Two_E5M2_operands_are_refused_on_a_device()
    {
        using var bench = new KernelBench("hostcuda");
        using var arena = bench.Stream.CreateArena("8-bit operands");
        var (a, b) = (Fp8Operand.Declare(arena, 16, 16, Fp8Format.E5M2), Fp8Operand.Declare(arena, 16, 16, Fp8Format.E5M2));
        arena.Allocate();
        var y = bench.Put(bench.Output<BFloat16>(new(16, 16)));
        var e = Assert.Throws<ArgumentException>(() => Matmul.ForwardFp8(bench.Stream, a, b, default, y));
        Assert.Contains("at least one must be E4M3", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Extents_are_multiples_of_sixteen()
    {
        using var arena = new Arena("8-bit operands");
        var e = Assert.Throws<ArgumentException>(() => Fp8Operand.Declare(arena, 16, 24, Fp8Format.E4M3));
        Assert.Equal("8-bit matrices have extents of multiples of 16, not [16, 24]", e.Message);
    }

    [Fact]
    public void Any_number_of_workers_gives_the_same_bits_and_no_call_allocates()
    {
        using var bench = new KernelBench();
        var x = bench.Rows<BFloat16>(80, 48);
        using var arena = new Arena("8-bit operands");
        var operand = Fp8Operand.Declare(arena, 80, 48, Fp8Format.E4M3);
        arena.Allocate();
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            Fp8.Quantize(stream, x, operand);
            return [KernelCheck.Bits(operand.Values), KernelCheck.Bits(operand.Transposed), KernelCheck.Bits(operand.Scale)];
        });
        KernelCheck.AllocatesNothing(stream => Fp8.Quantize(stream, x, operand));
    }

    [Fact]
    public void A_prefix_serves_fewer_rows()
    {
        using var bench = new KernelBench();
        using var arena = new Arena("8-bit operands");
        var whole = Fp8Operand.Declare(arena, 64, 32, Fp8Format.E4M3);
        arena.Allocate();
        var part = whole.Prefix(16);
        Fp8.Quantize(bench.Stream, bench.Input<BFloat16>(new(16, 32)), part);
        Assert.Equal((new Shape(16, 32), new Shape(32, 16)), (part.Values.Shape, part.Transposed.Shape));
        for (var row = 0; row < 16; row++)
        {
            for (var column = 0; column < 32; column++)
            {
                Assert.Equal(part.Values.Row(row)[column], part.Transposed.Row(column)[row]);
            }
        }
    }

    /// <summary>Quantises x and holds every byte of every copy, and the scale, against the definition. Returns the scale.</summary>
    private static float[] Check(KernelBench bench, Tensor<BFloat16> x, Fp8Format format, bool values = true, bool transposed = true)
    {
        var (rows, columns) = (x.Shape[0], x.Shape[1]);
        using var arena = bench.Stream.CreateArena("8-bit operand");
        var operand = Fp8Operand.Declare(arena, rows, columns, format, values, transposed);
        arena.Allocate();
        Fp8.Quantize(bench.Stream, bench.Put(x), operand);

        var amax = KernelBench.Doubles(x).Where(double.IsFinite).Select(Math.Abs).Max(v => (double?)v) ?? 0;
        var largest = format == Fp8Format.E4M3 ? 448 : 57344;
        var factor = amax == 0 ? 1 : Math.Pow(2, Math.Floor(Math.Log2(largest / amax)));
        var scale = new float[2];
        TensorCopy.Download(bench.Stream, operand.Scale, scale);
        Assert.Equal([(float)(1 / factor), (float)factor], scale);
        Assert.True(amax == 0 || (amax * factor <= largest && 2 * amax * factor > largest));

        var (codes, codesT) = (new byte[rows * columns], new byte[rows * columns]);
        if (values)
        {
            TensorCopy.Download(bench.Stream, operand.Values, codes);
        }

        if (transposed)
        {
            TensorCopy.Download(bench.Stream, operand.Transposed, codesT);
        }

        for (var row = 0; row < rows; row++)
        {
            for (var column = 0; column < columns; column++)
            {
                var expected = Nearest(x.Row(row)[column] * factor, format);
                Assert.True(!values || expected == codes[(row * columns) + column], $"[{row}, {column}] of {x.Shape}");
                Assert.True(!transposed || expected == codesT[(column * rows) + row], $"[{row}, {column}] of {x.Shape}, transposed");
            }
        }

        return scale;
    }

    private static double[] Decoded(KernelBench bench, Fp8Operand operand)
    {
        var (codes, scale) = (new byte[operand.RowCount * operand.ColumnCount], new float[2]);
        TensorCopy.Download(bench.Stream, operand.Values, codes);
        TensorCopy.Download(bench.Stream, operand.Scale, scale);
        return [.. codes.Select(c => Value(c, operand.Format) * scale[0])];
    }

    /// <summary>(-1)^s · 2^(e - bias) · 1.m, or 2^(1 - bias) · 0.m.</summary>
    private static double Value(byte code, Fp8Format format)
    {
        var (bits, bias) = format == Fp8Format.E4M3 ? (3, 7) : (2, 15);
        var (exponent, fraction) = ((code & 0x7F) >> bits, (code & ((1 << bits) - 1)) / (double)(1 << bits));
        var special = format == Fp8Format.E4M3 ? (code & 0x7F) == 0x7F : exponent == 31;
        var magnitude = special ? (format == Fp8Format.E5M2 && fraction == 0 ? double.PositiveInfinity : double.NaN)
            : exponent == 0 ? fraction * Math.Pow(2, 1 - bias) : (1 + fraction) * Math.Pow(2, exponent - bias);
        return code >= 0x80 ? -magnitude : magnitude;
    }

    /// <summary>The code whose value is nearest, of two the even one; by looking at all of them.</summary>
    private static byte Nearest(double value, Fp8Format format)
    {
        var sign = double.IsNegative(value) ? 0x80 : 0;
        if (!double.IsFinite(value))
        {
            return (byte)(format == Fp8Format.E5M2 && double.IsInfinity(value) ? sign | 0x7C : 0x7F);
        }

        var (values, largest, best) = (s_values[format], format == Fp8Format.E4M3 ? 0x7E : 0x7B, 0);
        var magnitude = Math.Min(Math.Abs(value), values[largest]);     // beyond it, differences of distances vanish in double
        for (var code = 1; code <= largest; code++)
        {
            var (distance, least) = (Math.Abs(values[code] - magnitude), Math.Abs(values[best] - magnitude));
            best = distance < least || (distance == least && code % 2 == 0) ? code : best;
        }

        return (byte)(sign | best);
    }

    private static readonly Dictionary<Fp8Format, double[]> s_values =
        Enum.GetValues<Fp8Format>().ToDictionary(f => f, f => Enumerable.Range(0, 128).Select(c => Value((byte)c, f)).ToArray());
}
