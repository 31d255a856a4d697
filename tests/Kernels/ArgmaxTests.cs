using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

public sealed class ArgmaxTests
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(3, 15)]
    [InlineData(5, 16)]
    [InlineData(7, 17)]
    [InlineData(4, 151)]
    [InlineData(2, 4099)]
    public void The_largest_is_found_and_of_equals_the_lowest(int rows, int columns)
    {
        Exact<float>(rows, columns);
        Exact<BFloat16>(rows, columns);
    }

    [Theory]
    [InlineData(5)]
    [InlineData(16)]
    [InlineData(40)]
    public void Nan_never_wins_and_infinities_are_numbers(int columns)
    {
        using var bench = new KernelBench();
        var x = bench.Output<float>(new Shape(4, columns));        // all NaN
        x.Row(1)[columns - 1] = -3;
        x.Row(2).Fill(float.NegativeInfinity);
        x.Row(3).Fill(1);
        x.Row(3)[columns / 2] = float.PositiveInfinity;
        var index = bench.Ints(-1, -1, -1, -1);
        Argmax.Forward(bench.Stream, x, index);
        Assert.Equal([0, columns - 1, 0, columns / 2], index.Span.ToArray());
    }

    private static void Exact<T>(int rows, int columns)
        where T : unmanaged
    {
        using var bench = new KernelBench();
        var x = bench.Input<T>(new Shape(rows, columns));         // 255 values: equals abound in wide rows
        var index = bench.Ints([.. Enumerable.Repeat(-1, rows)]);
        Argmax.Forward(bench.Stream, x, index);
        for (var r = 0; r < rows; r++)
        {
            var best = 0;
            for (var c = 1; c < columns; c++)
            {
                best = Value(r, c) > Value(r, best) ? c : best;
            }

            Assert.Equal(best, index.Span[r]);
        }

        double Value(int r, int c) => Lanes.Get(ref x.Origin, (nuint)((r * columns) + c));
    }
}
