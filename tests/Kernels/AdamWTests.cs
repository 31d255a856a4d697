using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

public sealed class AdamWTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(15)]
    [InlineData(17)]
    [InlineData(16384)]
    [InlineData(16385)]
    [InlineData(100003)]
    public void Steps_are_the_paper_in_the_order_of_torch(int count)
    {
        Steps<float>(count);
        Steps<BFloat16>(count);
    }

    [Fact]
    public void A_learning_rate_of_zero_keeps_every_bit_of_the_weight()
    {
        using var bench = new KernelBench();
        var gradient = bench.Input<float>(new Shape(50));
        var (master, m, v) = (bench.Input<float>(new Shape(50)), bench.Input<float>(new Shape(50)), bench.Allocate<float>(new Shape(50)));
        (master.Span[3], master.Span[49], master.Span[4]) = (-0f, -0f, float.Epsilon);
        var before = KernelCheck.Bits(master);
        var weight = bench.Output<BFloat16>(new Shape(50));
        AdamW.Step(bench.Stream, gradient, master, m, v, weight, new AdamWOptions(0, WeightDecay: 0.1), 1, 1f);
        Assert.Equal(before, KernelCheck.Bits(master));
        Assert.Equal(master.Span.ToArray().Select(p => (BFloat16)p), weight.Span.ToArray());
    }

    [Fact]
    public void Without_a_gradient_only_the_decay_moves_the_weight()
    {
        using var bench = new KernelBench();
        var (gradient, master) = (bench.Allocate<float>(new Shape(33)), bench.Input<float>(new Shape(33)));
        var (m, v) = (bench.Allocate<float>(new Shape(33)), bench.Allocate<float>(new Shape(33)));
        float[] expected = [.. master.Span.ToArray().Select(p => p * (float)(1 - (0.5 * 0.25)))];
        AdamW.Step(bench.Stream, gradient, master, m, v, master, new AdamWOptions(0.5, WeightDecay: 0.25), 1, 1f);
        Assert.Equal(expected, master.Span.ToArray());
    }

    [Fact]
    public void A_float_weight_may_be_the_master()
    {
        using var bench = new KernelBench();
        var shape = new Shape(100);
        var (gradient, master) = (bench.Input<float>(shape), bench.Input<float>(shape));
        var (alone, apart) = (bench.Copy<float>(shape, KernelBench.Doubles(master)), bench.Output<float>(shape));
        var options = new AdamWOptions(1e-3, WeightDecay: 0.1);
        AdamW.Step(bench.Stream, gradient, master, bench.Allocate<float>(shape), bench.Allocate<float>(shape), apart, options, 1, 0.5f);
        AdamW.Step(bench.Stream, gradient, alone, bench.Allocate<float>(shape), bench.Allocate<float>(shape), alone, options, 1, 0.5f);
        Assert.Equal(KernelCheck.Bits(master), KernelCheck.Bits(alone));
        Assert.Equal(KernelCheck.Bits(master), KernelCheck.Bits(apart));
    }

    [Fact]
    public void Same_bits_for_any_workers_and_nothing_allocated()
    {
        using var bench = new KernelBench();
        var shape = new Shape(50001);
        var (gradient, start) = (bench.Input<float>(shape), bench.Input<float>(shape));
        var options = new AdamWOptions(1e-3, WeightDecay: 0.1);
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            var (master, m, v) = (bench.Copy<float>(shape, KernelBench.Doubles(start)), bench.Allocate<float>(shape), bench.Allocate<float>(shape));
            var weight = bench.Output<BFloat16>(shape);
            AdamW.Step(stream, gradient, master, m, v, weight, options, 1, 0.5f);
            AdamW.Step(stream, gradient, master, m, v, weight, options, 2, 0.5f);
            return [KernelCheck.Bits(master), KernelCheck.Bits(m), KernelCheck.Bits(v), KernelCheck.Bits(weight)];
        });
        var (p, m, v) = (bench.Input<float>(shape), bench.Allocate<float>(shape), bench.Allocate<float>(shape));
        KernelCheck.AllocatesNothing(stream => AdamW.Step(stream, gradient, p, m, v, p, options, 3, 1f));
    }

    private static void Steps<T>(int count)
        where T : unmanaged
    {
        using var bench = new KernelBench();
        var shape = new Shape(count);
        var (master, m, v) = (bench.Input<float>(shape), bench.Allocate<float>(shape), bench.Allocate<float>(shape));
        var weight = bench.Output<T>(shape);
        var options = new AdamWOptions(1e-2, 0.9, 0.95, 1e-8, 0.1);
        const float GradientScale = 0.375f;
        foreach (var step in (long[])[1, 2, 3, 1000])
        {
            var gradient = bench.Input<float>(shape, MathF.ScaleB(1, step == 2 ? -20 : step == 3 ? 20 : 0));
            var (g, p, m0, v0) = (KernelBench.Doubles(gradient), KernelBench.Doubles(master), KernelBench.Doubles(m), KernelBench.Doubles(v));
            AdamW.Step(bench.Stream, gradient, master, m, v, weight, options, step, GradientScale);

            var (p1, m1, v1, move) = (new double[count], new double[count], new double[count], new double[count]);
            for (var i = 0; i < count; i++)
            {
                var scaled = g[i] * GradientScale;
                m1[i] = (0.9 * m0[i]) + ((1 - 0.9) * scaled);
                v1[i] = (0.95 * v0[i]) + ((1 - 0.95) * scaled * scaled);
                var (mHat, vHat) = (m1[i] / (1 - Math.Pow(0.9, step)), v1[i] / (1 - Math.Pow(0.95, step)));
                move[i] = 1e-2 * (Math.Abs(m0[i]) + Math.Abs(scaled)) / (1 - Math.Pow(0.9, step)) / (Math.Sqrt(vHat) + 1e-8);
                p1[i] = (p[i] * (1 - (1e-2 * 0.1))) - (1e-2 * mHat / (Math.Sqrt(vHat) + 1e-8));
            }

            KernelCheck.EachWithin(m, m1, i => 4 * KernelCheck.Eps * (Math.Abs(m0[i]) + Math.Abs(g[i])));
            KernelCheck.EachWithin(v, v1, i => 5 * KernelCheck.Eps * v1[i]);
            KernelCheck.EachWithin(master, p1, i => (4 * KernelCheck.Eps * Math.Abs(p[i])) + (12 * KernelCheck.Eps * move[i]));
            for (var i = 0; i < count; i++)
            {
                var stored = typeof(T) == typeof(float) ? master.Span[i] : (BFloat16)master.Span[i];
                Assert.Equal(stored, Lanes.Get(ref weight.Origin, (nuint)i));
            }
        }
    }
}
