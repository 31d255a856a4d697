using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

public sealed class GlobalNormTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(31)]
    [InlineData(65535)]
    [InlineData(65536)]
    [InlineData(65537)]
    [InlineData(1000003)]
    public void Sum_of_squares_over_several_tensors(int count)
    {
        using var bench = new KernelBench();
        var (a, b, c) = (bench.Input<float>(new Shape(count)), bench.Input<float>(new Shape(3, 5)), bench.Input<float>(new Shape(2, 17), 1 << 20));
        var expected = new[] { a, b, c }.Sum(t => KernelBench.Doubles(t).Sum(v => v * v));
        var actual = GlobalNorm.SumOfSquares(bench.Stream, a, b, c);
        Assert.True(Math.Abs(actual - expected) <= 1e-12 * expected, $"{actual:R} {expected:R}");
    }

    [Fact]
    public void Squares_neither_overflow_nor_vanish()
    {
        using var bench = new KernelBench();
        var big = bench.Copy<float>(new Shape(2), [3e30, 4e30]);
        var small = bench.Copy<float>(new Shape(2), [3e-30, 4e-30]);
        Assert.Equal(5e30, Math.Sqrt(GlobalNorm.SumOfSquares(bench.Stream, big)), 5e30 * 1e-7);
        Assert.Equal(5e-30, Math.Sqrt(GlobalNorm.SumOfSquares(bench.Stream, small)), 5e-30 * 1e-7);
        Assert.Equal(0, GlobalNorm.SumOfSquares(bench.Stream));
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void One_element_that_is_not_finite_is_visible_wherever_it_is(float bad)
    {
        using var bench = new KernelBench();
        foreach (var at in (int[])[0, 15, 16, 65535, 65536, 70000])
        {
            var gradient = bench.Input<float>(new Shape(70001));
            gradient.Span[at] = bad;
            Assert.False(double.IsFinite(GlobalNorm.SumOfSquares(bench.Stream, gradient)));
        }
    }

    [Theory]
    [InlineData(0.5, 1.0, 1.0)]
    [InlineData(0.0, 1.0, 1.0)]
    [InlineData(4.0, 1.0, 1.0 / 4.000001)]
    [InlineData(double.NaN, 1.0, double.NaN)]
    [InlineData(double.PositiveInfinity, 1.0, 0.0)]
    public void Clip_scale_is_that_of_torch(double norm, double maxNorm, double expected) =>
        Assert.Equal(expected, GlobalNorm.ClipScale(norm, maxNorm));

    [Fact]
    public void Same_bits_for_any_workers_and_nothing_allocated()
    {
        using var bench = new KernelBench();
        var (a, b) = (bench.Input<float>(new Shape(300001)), bench.Input<float>(new Shape(70, 1000)));
        KernelCheck.SameBitsForAnyWorkers(stream => [BitConverter.GetBytes(GlobalNorm.SumOfSquares(stream, a, b))]);
        KernelCheck.AllocatesNothing(stream => GlobalNorm.SumOfSquares(stream, a, b));
    }
}
