using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class GlobalNormTests
{
    [Theory]
    [InlineData("cpu", 1)]
    [InlineData("cpu", 7)]
    [InlineData("cpu", 31)]
    [InlineData("cpu", 65535)]
    [InlineData("cpu", 65536)]
    [InlineData("cpu", 65537)]
    [InlineData("cpu", 1000003)]
    [InlineData("hostcuda", 1)]
    [InlineData("hostcuda", 7)]
    [InlineData("hostcuda", 65535)]
    [InlineData("hostcuda", 65536)]
    [InlineData("hostcuda", 65537)]
    [InlineData("hostcuda", 300003)]
    public void Sum_of_squares_over_several_tensors(string device, int count)
    {
        using var bench = new KernelBench(device);
        var (a, b, c) = (bench.Input<float>(new Shape(count)), bench.Input<float>(new Shape(3, 5)), bench.Input<float>(new Shape(2, 17), 1 << 20));
        var expected = new[] { a, b, c }.Sum(t => KernelBench.Doubles(t).Sum(v => v * v));
        var actual = GlobalNorm.SumOfSquares(bench.Stream, bench.Put(a), bench.Put(b), bench.Put(c));
        Assert.True(Math.Abs(actual - expected) <= 1e-12 * expected, $"{actual:R} {expected:R}");
    }

    [Theory]
    [InlineData("cpu", 1024, 1024)]
    [InlineData("cpu", 5120, 1024)]
    [InlineData("cpu", 70001, 1024)]
    [InlineData("cpu", 7, 4)]
    [InlineData("hostcuda", 1024, 1024)]
    [InlineData("hostcuda", 5121, 1024)]
    [InlineData("hostcuda", 7, 4)]
    public void Chunk_sums_depend_on_their_own_elements_alone(string device, int count, int chunk)
    {
        using var bench = new KernelBench(device);
        var x = bench.Input<float>(new Shape(count));
        var sums = Sums(x);
        for (var c = 0; c < sums.Length; c++)
        {
            var part = x.Rows(c * chunk, Math.Min(chunk, count - (c * chunk)));
            var expected = KernelBench.Doubles(part).Sum(v => v * v);
            Assert.True(Math.Abs(sums[c] - expected) <= 1e-14 * expected, $"{c}: {sums[c]:R} {expected:R}");
            Assert.Equal(sums[c], Sums(bench.Copy<float>(new Shape((int)part.Count), KernelBench.Doubles(part)))[0]);
        }

        Assert.Throws<ArgumentException>(() => GlobalNorm.ChunkSums(bench.Stream, x, 3, bench.Allocate<double>(new Shape(1))));
        Assert.Throws<ArgumentException>(() => GlobalNorm.ChunkSums(bench.Stream, x, chunk, bench.Allocate<double>(new Shape(sums.Length + 1))));

        double[] Sums(Tensor<float> of)
        {
            var result = bench.Allocate<double>(new Shape(((int)of.Count + chunk - 1) / chunk));
            result.Span.Fill(double.NaN);
            var result1 = bench.Put(result);
            GlobalNorm.ChunkSums(bench.Stream, bench.Put(of), chunk, result1);
            bench.Get(result1, result);
            return result.Span.ToArray();
        }
    }

    [Theory]
    [MemberData(nameof(KernelDevices.All), MemberType = typeof(KernelDevices))]
    public void Squares_neither_overflow_nor_vanish(string device)
    {
        using var bench = new KernelBench(device);
        var big = bench.Put(bench.Copy<float>(new Shape(2), [3e30, 4e30]));
        var small = bench.Put(bench.Copy<float>(new Shape(2), [3e-30, 4e-30]));
        Assert.Equal(5e30, Math.Sqrt(GlobalNorm.SumOfSquares(bench.Stream, big)), 5e30 * 1e-7);
        Assert.Equal(5e-30, Math.Sqrt(GlobalNorm.SumOfSquares(bench.Stream, small)), 5e-30 * 1e-7);
        Assert.Equal(0, GlobalNorm.SumOfSquares(bench.Stream));
    }

    [Theory]
    [InlineData("cpu", float.NaN)]
    [InlineData("cpu", float.PositiveInfinity)]
    [InlineData("cpu", float.NegativeInfinity)]
    [InlineData("hostcuda", float.NaN)]
    [InlineData("hostcuda", float.NegativeInfinity)]
    public void One_element_that_is_not_finite_is_visible_wherever_it_is(string device, float bad)
    {
        using var bench = new KernelBench(device);
        foreach (var at in (int[])[0, 15, 16, 65535, 65536, 70000])
        {
            var gradient = bench.Input<float>(new Shape(70001));
            gradient.Span[at] = bad;
            Assert.False(double.IsFinite(GlobalNorm.SumOfSquares(bench.Stream, bench.Put(gradient))));
        }
    }

    [Fact]
    public void A_device_takes_more_tensors_than_fit_its_stack_and_gives_the_same_bits_twice()
    {
        using var bench = new KernelBench("hostcuda");
        Tensor<float>[] host = [.. Enumerable.Range(0, 600).Select(i => bench.Input<float>(new Shape(i % 7)))];
        Tensor<float>[] tensors = [.. host.Select(bench.Put)];
        var expected = host.Sum(t => KernelBench.Doubles(t).Sum(v => v * v));
        var actual = GlobalNorm.SumOfSquares(bench.Stream, tensors);
        Assert.Equal(expected, actual, 1e-12 * expected);
        Assert.Equal(BitConverter.DoubleToInt64Bits(actual), BitConverter.DoubleToInt64Bits(GlobalNorm.SumOfSquares(bench.Stream, tensors)));
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
        var sums = bench.Allocate<double>(new Shape(293));
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            GlobalNorm.ChunkSums(stream, a, 1024, sums);
            return [KernelCheck.Bits(sums)];
        });
        KernelCheck.AllocatesNothing(stream => GlobalNorm.ChunkSums(stream, a, 1024, sums));
    }
}
