using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

public sealed class ArgmaxTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(15)]
    [InlineData(16)]
    [InlineData(17)]
    [InlineData(31)]
    [InlineData(33)]
    [InlineData(97)]
    [InlineData(256)]
    [InlineData(5003)]
    public void The_first_of_the_largest(int columns)
    {
        Check<float>(columns);
        Check<BFloat16>(columns);
    }

    [Theory]
    [InlineData(5)]
    [InlineData(16)]
    [InlineData(40)]
    public void Every_place_wins_alone_and_ties_go_to_the_lower(int columns)
    {
        using var bench = new KernelBench();
        var (x, index) = (bench.Allocate<float>(new Shape(columns * columns, columns)), bench.Ints(new int[columns * columns]));
        for (var a = 0; a < columns; a++)
        {
            for (var b = 0; b < columns; b++)
            {
                (x.Row((a * columns) + b)[a], x.Row((a * columns) + b)[b]) = (2, 2);
            }
        }

        index.Span.Fill(-1);
        Argmax.Forward(bench.Stream, x, index);
        Assert.Equal(Enumerable.Range(0, columns * columns).Select(r => Math.Min(r / columns, r % columns)), index.Span.ToArray());
    }

    [Fact]
    public void What_is_not_a_number_never_wins()
    {
        foreach (var columns in (int[])[1, 16, 21, 64])
        {
            One(columns, v => float.NaN, 0);
            One(columns, v => float.NegativeInfinity, 0);
            One(columns, v => v == columns - 1 ? -5 : float.NaN, columns - 1);
            One(columns, v => v == columns / 2 ? float.PositiveInfinity : v == 0 ? float.NaN : 1, columns == 1 ? 0 : columns / 2);
            One(columns, v => v == columns - 1 ? float.MinValue : float.NegativeInfinity, columns - 1);
            One(columns, v => v % 2 == 0 ? -0f : 0f, 0);                     // zeros are equal
        }

        static void One(int columns, Func<int, float> value, int expected)
        {
            using var bench = new KernelBench();
            var (x, index) = (bench.Allocate<float>(new Shape(1, columns)), bench.Ints(-1));
            for (var v = 0; v < columns; v++)
            {
                x.Span[v] = value(v);
            }

            Argmax.Forward(bench.Stream, x, index);
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

    private static void Check<T>(int columns)
        where T : unmanaged
    {
        using var bench = new KernelBench();
        const int Rows = 37;
        var (x, index) = (bench.Input<T>(new Shape(Rows, columns)), bench.Ints(new int[Rows]));     // 255 values: many ties in a long row
        index.Span.Fill(-1);
        Argmax.Forward(bench.Stream, x, index);
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
