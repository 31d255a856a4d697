using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class ArgmaxTests
{
    [Theory]
    [InlineData("cpu", 1)]
    [InlineData("cpu", 2)]
    [InlineData("cpu", 15)]
    [InlineData("cpu", 16)]
    [InlineData("cpu", 17)]
    [InlineData("cpu", 31)]
    [InlineData("cpu", 33)]
    [InlineData("cpu", 97)]
    [InlineData("cpu", 256)]
    [InlineData("cpu", 5003)]
    [InlineData("hostcuda", 1)]
    [InlineData("hostcuda", 8)]
    [InlineData("hostcuda", 97)]
    [InlineData("hostcuda", 4104)]                      // one vector more than there are threads
    [InlineData("hostcuda", 5003)]
    public void The_first_of_the_largest(string device, int columns)
    {
        Check<BFloat16>(device, columns);
        if (device == "cpu")
        {
            Check<float>(device, columns);
        }
    }

    [Theory]
    [InlineData("cpu", 5)]
    [InlineData("cpu", 16)]
    [InlineData("cpu", 40)]
    [InlineData("hostcuda", 5)]
    [InlineData("hostcuda", 16)]
    public void Every_place_wins_alone_and_ties_go_to_the_lower(string device, int columns)
    {
        using var bench = new KernelBench(device);
        var (x, index) = (bench.Allocate<BFloat16>(new Shape(columns * columns, columns)), bench.Ints(new int[columns * columns]));
        for (var a = 0; a < columns; a++)
        {
            for (var b = 0; b < columns; b++)
            {
                (x.Row((a * columns) + b)[a], x.Row((a * columns) + b)[b]) = ((BFloat16)2f, (BFloat16)2f);
            }
        }

        index.Span.Fill(-1);
        var index1 = bench.Put(index);
        Argmax.Forward(bench.Stream, bench.Put(x), index1);
        bench.Get(index1, index);
        Assert.Equal(Enumerable.Range(0, columns * columns).Select(r => Math.Min(r / columns, r % columns)), index.Span.ToArray());
    }

    [Theory]
    [MemberData(nameof(KernelDevices.All), MemberType = typeof(KernelDevices))]
    public void What_is_not_a_number_never_wins(string device)
    {
        const float Lowest = -3.3895314e38f;                                 // the lowest finite bfloat16
        foreach (var columns in (int[])[1, 16, 21, 64])
        {
            One(columns, v => float.NaN, 0);
            One(columns, v => float.NegativeInfinity, 0);
            One(columns, v => v == columns - 1 ? -5 : float.NaN, columns - 1);
            One(columns, v => v == columns / 2 ? float.PositiveInfinity : v == 0 ? float.NaN : 1, columns == 1 ? 0 : columns / 2);
            One(columns, v => v == columns - 1 ? Lowest : float.NegativeInfinity, columns - 1);
            One(columns, v => v % 2 == 0 ? -0f : 0f, 0);                     // zeros are equal
        }

        void One(int columns, Func<int, float> value, int expected)
        {
            Of<BFloat16>(columns, value, expected);
            if (device == "cpu")
            {
                Of<float>(columns, value, expected);
            }
        }

        void Of<T>(int columns, Func<int, float> value, int expected)
            where T : unmanaged
        {
            using var bench = new KernelBench(device);
            var (x, index) = (bench.Allocate<T>(new Shape(1, columns)), bench.Ints(-1));
            for (var v = 0; v < columns; v++)
            {
                Lanes.Set(ref x.Origin, (nuint)v, value(v));
            }

            var index1 = bench.Put(index);
            Argmax.Forward(bench.Stream, bench.Put(x), index1);
            bench.Get(index1, index);
            Assert.Equal(expected, index.Span[0]);
        }
    }

    [Fact]
    public void Same_result_for_any_workers_and_nothing_allocated()
    {
        using var bench = new KernelBench();
        var x = bench.Input<BFloat16>(new Shape(33, 1001));
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            var index = bench.Ints(new int[33]);
            Argmax.Forward(stream, x, index);
            return [KernelCheck.Bits(index)];
        });
        var again = bench.Ints(new int[33]);
        KernelCheck.AllocatesNothing(stream => Argmax.Forward(stream, x, again));
    }

    [Fact]
    public void Shapes_are_checked()
    {
        using var bench = new KernelBench();
        Assert.Throws<ArgumentException>(() => Argmax.Forward(bench.Stream, bench.Input<float>(new Shape(3, 8)), bench.Ints(0, 0)));
    }

    private static void Check<T>(string device, int columns)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        const int Rows = 37;
        var (x, index) = (bench.Input<T>(new Shape(Rows, columns)), bench.Ints(new int[Rows]));     // 255 values: many ties in a long row
        index.Span.Fill(-1);
        var index1 = bench.Put(index);
        Argmax.Forward(bench.Stream, bench.Put(x), index1);
        bench.Get(index1, index);
        var values = KernelBench.Doubles(x);
        for (var r = 0; r < Rows; r++)
        {
            var row = values.AsSpan(r * columns, columns);
            var best = 0;
            for (var c = 1; c < columns; c++)
            {
                best = row[c] > row[best] ? c : best;
            }

            Assert.Equal(best, index.Span[r]);
        }
    }
}
