using System.Runtime.InteropServices;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class CastTests
{
    // Ties both ways, what overflows to infinity, subnormals, what is not a number.
    private static readonly float[] s_special =
    [
        0f, -0f, 1f + (1 / 256f), 1f + (3 / 256f), 1f + (1 / 256f) + MathF.ScaleB(1, -23), float.MaxValue, float.MinValue, float.Epsilon, -1e-40f,
        float.PositiveInfinity, float.NegativeInfinity, float.NaN, -3.3895314e38f,
    ];

    // Not numbers of which cutting makes infinity, and whose bits rounding overflows. As bits: the compiler makes the first a quiet one where it is a float.
    private static readonly uint[] s_specialBits = [0x7F80_0001, 0xFFFF_FFFF];

    [Theory]
    [InlineData("cpu", 1)]
    [InlineData("cpu", 17)]
    [InlineData("cpu", 40001)]
    [InlineData("hostcuda", 1)]
    [InlineData("hostcuda", 7)]
    [InlineData("hostcuda", 8)]
    [InlineData("hostcuda", 9)]
    [InlineData("hostcuda", 5003)]
    public void Round_is_to_nearest_even_and_widen_is_exact(string device, int count)
    {
        using var bench = new KernelBench(device);
        var shape = new Shape(count);
        var (from, to, back) = (Values(bench, count), bench.Output<BFloat16>(shape), bench.Output<float>(shape));
        var (to1, back1) = (bench.Put(to), bench.Put(back));
        Cast.Round(bench.Stream, bench.Put(from), to1);
        Cast.Widen(bench.Stream, to1, back1);
        bench.Get(to1, to);
        bench.Get(back1, back);
        for (var i = 0; i < count; i++)
        {
            var x = from.Span[i];
            Assert.True(float.IsNaN(x) ? float.IsNaN(to.Span[i]) : Nearest(x) == to.Span[i].Bits, $"{i}: {x:R} became {to.Span[i].Bits:x4}");
            Assert.Equal((uint)to.Span[i].Bits << 16, BitConverter.SingleToUInt32Bits(back.Span[i]));
        }
    }

    [Theory]
    [InlineData("cpu", 1)]
    [InlineData("cpu", 17)]
    [InlineData("cpu", 40001)]
    [InlineData("hostcuda", 1)]
    [InlineData("hostcuda", 7)]
    [InlineData("hostcuda", 8)]
    [InlineData("hostcuda", 5003)]
    public void Add_is_one_rounded_sum(string device, int count)
    {
        using var bench = new KernelBench(device);
        Check(bench.Input<float>(new Shape(count), 3.0001f));
        Check(bench.Input<BFloat16>(new Shape(count)));

        void Check<T>(Tensor<T> from)
            where T : unmanaged
        {
            var to = Values(bench, count);
            var (before, addends) = (to.Span.ToArray(), KernelBench.Doubles(from));
            var to1 = bench.Put(to);
            Cast.Add(bench.Stream, bench.Put(from), to1);
            bench.Get(to1, to);
            for (var i = 0; i < count; i++)
            {
                // double holds an fp32 sum with an error that a second rounding to fp32 does not show (53 >= 2·24 + 2)
                Assert.Equal((float)((double)before[i] + addends[i]), to.Span[i]);
            }
        }
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("hostcuda")]
    public void A_part_of_a_tensor_draws_the_bits_that_it_has_in_the_whole(string device)
    {
        using var bench = new KernelBench(device);
        const int Count = 3001;
        var from = Values(bench, Count);
        var whole = bench.Output<BFloat16>(new Shape(Count));
        var whole1 = bench.Put(whole);
        Cast.RoundStochastic(bench.Stream, bench.Put(from), whole1, 3, 4);
        bench.Get(whole1, whole);
        foreach (var first in (int[])[8, 1024, 2999])
        {
            var part = bench.Output<BFloat16>(new Shape(Count - first));
            var part1 = bench.Put(part);
            var copy = bench.Copy<float>(new Shape(Count - first), from.Span[first..].ToArray().Select(v => (double)v).ToArray());
            Cast.RoundStochastic(bench.Stream, bench.Put(copy), part1, 3, 4, first);
            bench.Get(part1, part);
            Assert.True(part.Span.SequenceEqual(whole.Span[first..]), $"from {first}");
        }
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("hostcuda")]
    public void Stochastic_rounding_adds_the_bits_of_triple32(string device)
    {
        using var bench = new KernelBench(device);
        const int Count = 1003;
        var from = Values(bench, Count);
        foreach (var (seed, step, first) in ((ulong, long, long)[])[(3, 4, 0), (0xD1342543DE82EF95, 1L << 40, 8), (7, 0, (1L << 32) - 504)])
        {
            var to = bench.Output<BFloat16>(new Shape(Count));
            var to1 = bench.Put(to);
            Cast.RoundStochastic(bench.Stream, bench.Put(from), to1, seed, step, first);
            bench.Get(to1, to);
            var key = StochasticRounding.Key(seed, step);
            for (var i = 0; i < Count; i++)
            {
                var value = from.Span[i];
                var expected = float.IsFinite(value)
                    ? BFloat16.FromBits((ushort)((BitConverter.SingleToUInt32Bits(value) + Cut((uint)key, (uint)(key >> 32), (ulong)(first + i))) >> 16))
                    : (BFloat16)value;
                Assert.True(float.IsNaN(value) ? float.IsNaN(to.Span[i]) : expected == to.Span[i], $"{first} + {i}: {value:R} became {to.Span[i]}");
            }
        }

        // Wellons 2018, triple32, whose last shift leaves the upper half alone; the key's upper half is added after the first product.
        static uint Cut(uint low, uint high, ulong element)
        {
            var h = (low + element) % (1UL << 32);
            h = (h ^ (h / (1 << 17))) * 0xED5AD4BB % (1UL << 32);
            h = ((h ^ (h / (1 << 11))) + high) % (1UL << 32);
            h = h * 0xAC4C1B51 % (1UL << 32);
            h = (h ^ (h / (1 << 15))) * 0x31848BAB % (1UL << 32);
            return (uint)(h >> 16);
        }
    }

    [Fact]
    public void Float_to_float_is_a_copy()
    {
        foreach (var device in (string[])["cpu", "hostcuda"])
        {
            using var bench = new KernelBench(device);
            var from = bench.Input<float>(new Shape(33));
            var to = bench.Put(bench.Output<float>(new Shape(33)));
            Cast.Round(bench.Stream, bench.Put(from), to);
            Assert.Equal(KernelCheck.Bits(from), bench.Bits(to));
            Cast.RoundStochastic(bench.Stream, bench.Put(from), to, 1, 1);
            Assert.Equal(KernelCheck.Bits(from), bench.Bits(to));
            to = bench.Put(bench.Output<float>(new Shape(33)));
            Cast.Widen(bench.Stream, bench.Put(from), to);
            Assert.Equal(KernelCheck.Bits(from), bench.Bits(to));
        }
    }

    [Fact]
    public void A_device_draws_the_bits_of_the_cpu()
    {
        using var bench = new KernelBench("hostcuda");
        const int Count = 1003;
        var (from, cpu) = (Values(bench, Count), bench.Output<BFloat16>(new Shape(Count)));
        var device = bench.Put(cpu);
        Cast.RoundStochastic(bench.Cpu, from, cpu, 3, 4);
        Cast.RoundStochastic(bench.Stream, bench.Put(from), device, 3, 4);
        var actual = bench.Output<BFloat16>(new Shape(Count));
        bench.Get(device, actual);
        for (var i = 0; i < Count; i++)
        {
            Assert.True(float.IsNaN(from.Span[i]) ? float.IsNaN(actual.Span[i]) : cpu.Span[i] == actual.Span[i], $"{i}: {from.Span[i]:R}");
        }
    }

    [Fact]
    public void Same_bits_for_any_workers_and_nothing_allocated()
    {
        using var bench = new KernelBench();
        var from = Values(bench, 50001);
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            var (nearest, random, back) = (bench.Output<BFloat16>(from.Shape), bench.Output<BFloat16>(from.Shape), bench.Output<float>(from.Shape));
            Cast.Round(stream, from, nearest);
            Cast.RoundStochastic(stream, from, random, 1, 2);
            Cast.Widen(stream, random, back);
            Cast.Add(stream, nearest, back);
            Cast.Add(stream, from, back);
            return [KernelCheck.Bits(nearest), KernelCheck.Bits(random), KernelCheck.Bits(back)];
        });
        var to = bench.Output<BFloat16>(from.Shape);
        KernelCheck.AllocatesNothing(stream => Cast.RoundStochastic(stream, from, to, 1, 2));
    }

    [Fact]
    public void Counts_are_checked()
    {
        using var bench = new KernelBench();
        Assert.Throws<ArgumentException>(() => Cast.Round(bench.Stream, bench.Input<float>(new Shape(4)), bench.Output<BFloat16>(new Shape(5))));
        Assert.Throws<ArgumentException>(() => Cast.Add(bench.Stream, bench.Input<BFloat16>(new Shape(4)), bench.Output<float>(new Shape(5))));
        Assert.Throws<ArgumentException>(() => Cast.Widen(bench.Stream, bench.Input<BFloat16>(new Shape(4)), bench.Output<float>(new Shape(5))));
    }

    private static Tensor<float> Values(KernelBench bench, int count)
    {
        var values = bench.Input<float>(new Shape(count), 3.0001f);
        for (var i = 0; i < count && i < s_special.Length; i++)
        {
            values.Span[i] = s_special[i];
        }

        for (var i = 0; s_special.Length + i < count && i < s_specialBits.Length; i++)
        {
            MemoryMarshal.Cast<float, uint>(values.Span)[s_special.Length + i] = s_specialBits[i];
        }

        return values;
    }

    /// <summary>The nearest of the two neighbours by their distance in double, the one with an even last bit in a tie; beyond the last step
    /// infinity.</summary>
    private static ushort Nearest(float x)
    {
        if (float.IsInfinity(x))
        {
            return (ushort)(BitConverter.SingleToUInt32Bits(x) >> 16);
        }

        var low = (ushort)(BitConverter.SingleToUInt32Bits(x) >> 16);
        var high = (ushort)(low + 1);
        var (down, up) = (Math.Abs(Magnitude(low) - Math.Abs((double)x)), Math.Abs(Magnitude(high) - Math.Abs((double)x)));
        return down < up || (down == up && low % 2 == 0) ? low : high;
    }

    /// <summary>|value|, with the exponent of infinity read as one more power of two.</summary>
    private static double Magnitude(ushort bits)
    {
        var (exponent, mantissa) = (bits >> 7 & 0xFF, bits & 0x7F);
        return exponent == 0 ? Math.ScaleB(mantissa, -133) : Math.ScaleB(128 + mantissa, exponent - 134);
    }
}
