using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class AdamWTests
{
    [Theory]
    [InlineData("cpu", 1)]
    [InlineData("cpu", 15)]
    [InlineData("cpu", 17)]
    [InlineData("cpu", 16384)]
    [InlineData("cpu", 16385)]
    [InlineData("cpu", 100003)]
    [InlineData("hostcuda", 1)]
    [InlineData("hostcuda", 15)]
    [InlineData("hostcuda", 2048)]
    [InlineData("hostcuda", 10007)]
    public void Steps_are_the_paper_in_the_order_of_torch(string device, int count)
    {
        Steps<BFloat16>(device, count);
        if (device == "cpu")
        {
            Steps<float>(device, count);
        }
    }

    [Theory]
    [MemberData(nameof(KernelDevices.All), MemberType = typeof(KernelDevices))]
    public void A_learning_rate_of_zero_keeps_every_bit_of_the_weight(string device)
    {
        using var bench = new KernelBench(device);
        var gradient = bench.Input<float>(new Shape(50));
        var (master, m, v) = (bench.Input<float>(new Shape(50)), bench.Input<float>(new Shape(50)), bench.Allocate<float>(new Shape(50)));
        (master.Span[3], master.Span[49], master.Span[4]) = (-0f, -0f, float.Epsilon);
        var before = KernelCheck.Bits(master);
        var weight = bench.Output<BFloat16>(new Shape(50));
        var (master1, weight1) = (bench.Put(master), bench.Put(weight));
        AdamW.Step(bench.Stream, bench.Put(gradient), master1, bench.Put(m), bench.Put(v), weight1, new AdamWOptions(0, WeightDecay: 0.1), 1, 1f);
        bench.Get(master1, master);
        bench.Get(weight1, weight);
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

    [Theory]
    [InlineData("cpu", 100003)]
    [InlineData("hostcuda", 10007)]
    public void Stochastic_rounding_has_the_right_mean_and_depends_on_seed_step_and_element_alone(string device, int count)
    {
        using var bench = new KernelBench(device);
        var shape = new Shape(count);
        var master = bench.Allocate<float>(shape);
        for (var i = 0; i < count; i++)
        {
            master.Span[i] = 1 + (37 / 65536f / 128);                        // 37/65536 of the way from 1 to the next bfloat16
        }

        (master.Span[1], master.Span[2], master.Span[3]) = (float.NaN, float.PositiveInfinity, -0.5f);
        var first = Rounded(seed: 5, step: 1);
        Assert.True(float.IsNaN(first[1]));
        Assert.Equal((float.PositiveInfinity, -0.5f), (first[2], first[3]));
        for (var i = 4; i < count; i++)
        {
            Assert.True((float)first[i] == 1 || (float)first[i] == 1 + (1 / 128f), $"{i}: {first[i]}");
        }

        Assert.Equal(first, Rounded(seed: 5, step: 1));
        Assert.NotEqual(first, Rounded(seed: 5, step: 2));
        Assert.NotEqual(first, Rounded(seed: 6, step: 1));
        var repeated = bench.Output<BFloat16>(shape);
        var repeated1 = bench.Put(repeated);
        Cast.RoundStochastic(bench.Stream, bench.Put(master), repeated1, 5, 1);
        bench.Get(repeated1, repeated);
        Assert.Equal(first, repeated.Span.ToArray());

        // Each element draws anew at each step: with p = 1/4 the ups of n draws lie within 6·√(n·p·(1 − p)) of n·p but once in 5·10^8.
        master.Span.Fill(1 + (0.25f / 128));
        // So do both of two neighbours, and of two steps of one element, with p² = 1/16; pairs overlap, which widens the bound by 5/3 at most.
        var (ups, n, neighbours, again) = (0, 0, 0, 0);
        var before = new bool[count];
        for (var step = 1; step <= 20; step++)
        {
            var up = Array.ConvertAll(Rounded(seed: 5, step), v => (float)v > 1);
            ups += up.Count(u => u);
            neighbours += up.Zip(up.Skip(1)).Count(pair => pair.First && pair.Second);
            again += up.Zip(before).Count(pair => pair.First && pair.Second);
            (n, before) = (n + count, up);
        }

        Assert.InRange(ups - (0.25 * n), -6 * Math.Sqrt(n * 0.1875), 6 * Math.Sqrt(n * 0.1875));
        Assert.InRange(neighbours - ((n - 20) / 16.0), -8 * Math.Sqrt(n / 16.0), 8 * Math.Sqrt(n / 16.0));
        Assert.InRange(again - ((n - count) / 16.0), -8 * Math.Sqrt(n / 16.0), 8 * Math.Sqrt(n / 16.0));

        BFloat16[] Rounded(ulong seed, long step)
        {
            var weight = bench.Output<BFloat16>(shape);
            var weight1 = bench.Put(weight);
            var options = new AdamWOptions(0, StochasticRounding: seed);
            AdamW.Step(
                bench.Stream, bench.Put(bench.Allocate<float>(shape)), bench.Put(master), bench.Put(bench.Allocate<float>(shape)),
                bench.Put(bench.Allocate<float>(shape)), weight1, options, step, 1f);
            bench.Get(weight1, weight);
            return weight.Span.ToArray();
        }
    }

    [Fact]
    public void A_device_draws_the_bits_of_the_cpu()
    {
        using var bench = new KernelBench("hostcuda");
        var shape = new Shape(1003);
        var (master, cpu, zero) = (bench.Input<float>(shape), bench.Output<BFloat16>(shape), bench.Allocate<float>(shape));
        foreach (ref var p in master.Span)
        {
            p *= 1.0001f;
        }

        var device = bench.Put(cpu);
        var options = new AdamWOptions(0, StochasticRounding: 77);
        var before = KernelCheck.Bits(master);
        AdamW.Step(bench.Stream, bench.Put(zero), bench.Put(master), bench.Put(zero), bench.Put(zero), device, options, 9, 1f);
        AdamW.Step(bench.Cpu, zero, master, zero, bench.Allocate<float>(new Shape(1003)), cpu, options, 9, 1f);
        Assert.Equal(before, KernelCheck.Bits(master));
        Assert.Equal(KernelCheck.Bits(cpu), bench.Bits(device));
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("hostcuda")]
    public void A_tensor_in_parts_is_the_whole_bit_for_bit(string device)
    {
        using var bench = new KernelBench(device);
        const int Count = 4003;
        var (gradient, master) = (bench.Input<float>(new Shape(Count)), bench.Input<float>(new Shape(Count), 1.0001f));
        var options = new AdamWOptions(1e-3, WeightDecay: 0.1, StochasticRounding: 77);
        var whole = Run(0, Count, 0);
        foreach (var cut in (int[])[8, 1024, 4000])
        {
            var (a, b) = (Run(0, cut, 0), Run(cut, Count - cut, cut));
            Assert.Equal(whole.Master, (float[])[.. a.Master, .. b.Master]);
            Assert.Equal(whole.Weight, (BFloat16[])[.. a.Weight, .. b.Weight]);
            if (Count - cut > 1000)              // few elements may draw alike
            {
                Assert.NotEqual(whole.Weight, (BFloat16[])[.. a.Weight, .. Run(cut, Count - cut, 0).Weight]);
            }
        }

        (float[] Master, BFloat16[] Weight) Run(int first, int count, long firstElement)
        {
            var shape = new Shape(count);
            var part = bench.Copy<float>(shape, [.. master.Span.Slice(first, count).ToArray().Select(v => (double)v)]);
            var weight = bench.Output<BFloat16>(shape);
            var (part1, weight1) = (bench.Put(part), bench.Put(weight));
            var g = bench.Copy<float>(shape, [.. gradient.Span.Slice(first, count).ToArray().Select(v => (double)v)]);
            AdamW.Step(
                bench.Stream, bench.Put(g), part1, bench.Put(bench.Allocate<float>(shape)), bench.Put(bench.Allocate<float>(shape)), weight1, options, 3, 0.5f,
                firstElement);
            bench.Get(part1, part);
            bench.Get(weight1, weight);
            return (part.Span.ToArray(), weight.Span.ToArray());
        }
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

    private static void Steps<T>(string device, int count)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var shape = new Shape(count);
        var (master, m, v) = (bench.Input<float>(shape), bench.Allocate<float>(shape), bench.Allocate<float>(shape));
        var weight = bench.Output<T>(shape);
        var (master1, m2, v2, weight1) = (bench.Put(master), bench.Put(m), bench.Put(v), bench.Put(weight));
        var options = new AdamWOptions(1e-2, 0.9, 0.95, 1e-8, 0.1);
        const float GradientScale = 0.375f;
        foreach (var step in (long[])[1, 2, 3, 1000])
        {
            var gradient = bench.Input<float>(shape, MathF.ScaleB(1, step == 2 ? -20 : step == 3 ? 20 : 0));
            var (g, p, m0, v0) = (KernelBench.Doubles(gradient), KernelBench.Doubles(master), KernelBench.Doubles(m), KernelBench.Doubles(v));
            AdamW.Step(bench.Stream, bench.Put(gradient), master1, m2, v2, weight1, options, step, GradientScale);
            bench.Get(master1, master);
            bench.Get(m2, m);
            bench.Get(v2, v);
            bench.Get(weight1, weight);

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

            // Where a device does not fuse, the root and the move round once more each.
            KernelCheck.EachWithin(
                master, p1, i => (4 * KernelCheck.Eps * Math.Abs(p[i])) + ((bench.IsDevice ? 14 : 12) * KernelCheck.Eps * move[i]));
            for (var i = 0; i < count; i++)
            {
                var stored = typeof(T) == typeof(float) ? master.Span[i] : (BFloat16)master.Span[i];
                Assert.Equal(stored, Lanes.Get(ref weight.Origin, (nuint)i));
            }
        }
    }
}
