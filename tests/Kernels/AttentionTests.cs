using System.Runtime.InteropServices;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>
/// The oracle is the formula in double, itself checked against finite differences. The bound on the largest error is flash-attention's:
/// twice that of a naive float implementation whose result is rounded to T, plus a rounding floor. For a device the naive one rounds the
/// probabilities and their gradients to bfloat16 as well, as the kernels there do.
/// </summary>
[Collection("hostcuda")]
public sealed class AttentionTests
{
    private const string Cpu = "cpu", HostCuda = "hostcuda";

    /// <summary>Lengths; N, K, H; scale of the inputs.</summary>
    public static TheoryData<int[], int, int, int, float> Cases => new()
    {
        { [1], 1, 1, 2, 1f },
        { [1, 7, 3], 2, 1, 8, 1f },
        { [1, 7, 3], 3, 3, 10, 1f },
        { [17, 33, 2], 4, 2, 16, 1f },
        { [9, 1, 1, 20], 6, 2, 10, 2f },
        { [65, 31], 2, 2, 64, 1f },
        { [64, 128], 3, 1, 32, 1f },
        { [63, 0, 66], 4, 4, 17, 1f },
        { [130], 10, 2, 32, 1f },
        { [130], 2, 1, 128, 2f },
        { [70, 5], 2, 1, 80, 1f },
        { [400, 300, 260, 320], 2, 1, 64, 1f },
        { [40, 129], 7, 1, 64, 1f },
        { [100], 4, 2, 64, 16f },
    };

    /// <summary>The same for hostcuda: lengths of 1, around the tiles of 32, 64 and 128, ratios N/K of 1, 2, 6, 7, padded head dims.</summary>
    public static TheoryData<int[], int, int, int, float> DeviceCases => new()
    {
        { [1], 1, 1, 8, 1f },
        { [1, 7, 3], 2, 1, 16, 1f },
        { [17, 0, 33, 2], 4, 2, 16, 1f },
        { [9, 1, 1, 20], 6, 1, 24, 2f },
        { [65, 31], 2, 2, 64, 1f },
        { [64, 1, 63], 6, 1, 16, 1f },
        { [32, 40], 7, 1, 64, 1f },
        { [129], 2, 1, 64, 1f },
        { [70, 5], 2, 1, 80, 1f },
        { [97], 2, 1, 128, 2f },
        { [200], 1, 1, 16, 1f },
        { [50], 2, 2, 64, 16f },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_is_the_formula_in_float(int[] lengths, int n, int k, int h, float scale) =>
        ForwardIsTheFormula<float>(Cpu, lengths, n, k, h, scale);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_is_the_formula_in_bfloat16(int[] lengths, int n, int k, int h, float scale) =>
        ForwardIsTheFormula<BFloat16>(Cpu, lengths, n, k, h, scale);

    [Theory]
    [MemberData(nameof(DeviceCases))]
    public void Forward_on_a_device_is_the_formula(int[] lengths, int n, int k, int h, float scale) =>
        ForwardIsTheFormula<BFloat16>(HostCuda, lengths, n, k, h, scale);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Backward_is_the_formula_in_float(int[] lengths, int n, int k, int h, float scale) =>
        BackwardIsTheFormula<float>(Cpu, lengths, n, k, h, scale);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Backward_is_the_formula_in_bfloat16(int[] lengths, int n, int k, int h, float scale) =>
        BackwardIsTheFormula<BFloat16>(Cpu, lengths, n, k, h, scale);

    [Theory]
    [MemberData(nameof(DeviceCases))]
    public void Backward_on_a_device_is_the_formula(int[] lengths, int n, int k, int h, float scale) =>
        BackwardIsTheFormula<BFloat16>(HostCuda, lengths, n, k, h, scale);

    [Theory]
    [InlineData(4, 2, 3)]
    [InlineData(2, 2, 4)]
    [InlineData(3, 1, 2)]
    public void The_oracle_agrees_with_finite_differences(int n, int k, int h)
    {
        var oracle = new Oracle([3, 1, 5], n, k, h);
        var random = new Random(5);
        var qkv = Enumerable.Range(0, 9 * oracle.Width).Select(_ => (random.NextDouble() * 4) - 2).ToArray();
        var weights = Enumerable.Range(0, 9 * n * h).Select(_ => (random.NextDouble() * 2) - 1).ToArray();
        var (o, lse) = oracle.Forward(qkv);
        var gradient = oracle.Backward(weights, qkv, o, lse);
        for (var i = 0; i < qkv.Length; i++)
        {
            const double Step = 1e-5;
            var kept = qkv[i];
            qkv[i] = kept + Step;
            var above = oracle.Forward(qkv).O.Zip(weights, (x, w) => x * w).Sum();
            qkv[i] = kept - Step;
            var below = oracle.Forward(qkv).O.Zip(weights, (x, w) => x * w).Sum();
            qkv[i] = kept;
            Assert.True(Math.Abs(((above - below) / (2 * Step)) - gradient[i]) <= 1e-8, $"element {i}");
        }
    }

    [Theory]
    [InlineData(60f)]
    [InlineData(-60f)]
    [InlineData(400f)]
    public void Large_scores_neither_overflow_nor_vanish(float score) => LargeScores<float>(Cpu, score);

    [Theory]
    [InlineData(60f)]
    [InlineData(-60f)]
    [InlineData(400f)]
    public void Large_scores_on_a_device_neither_overflow_nor_vanish(float score) => LargeScores<BFloat16>(HostCuda, score);

    private static void LargeScores<T>(string device, float score)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        const int Tokens = 150, Dim = 16;
        var qkv = bench.Input<T>(new(Tokens, 3 * Dim));
        for (var t = 0; t < Tokens; t++)
        {
            qkv.Row(t)[..(2 * Dim)].Clear();
            Lanes.Set(ref qkv.Row(t)[0], 0, 2);
            Lanes.Set(ref qkv.Row(t)[Dim], 0, t % 3 == 0 ? 2 * score : 2 * score * (1 - (t / 1024f)));  // 2 · 2 · score / √16 = score, or a little less
        }

        var oracle = new Oracle([Tokens], 1, 1, Dim);
        var (expected, expectedLse) = oracle.Forward(KernelBench.Doubles(qkv));
        var call = new Call<T>(bench, [Tokens], 1, 1, Dim, qkv);
        call.Forward(bench.Stream);

        // a score s carries an absolute error of a few 2^-24 · s, a probability that relative error, and so does o relative to max |v| = 1;
        // where T is bfloat16, the probabilities and o are rounded too
        var rounding = typeof(T) == typeof(float) ? 0 : 2 * KernelBench.Ulp<T>();
        KernelBench.Within(call.O, expected, 0, rounding + (8 * Math.Abs(score) * KernelBench.Ulp<float>()));
        KernelBench.Within(call.Lse, expectedLse, 4 * KernelBench.Ulp<float>(), 1e-6);
        call.Backward(bench.Stream, bench.Input<T>(new(Tokens, Dim)));
        Assert.All(KernelBench.Doubles(call.Dqkv), v => Assert.True(double.IsFinite(v)));
    }

    [Theory]
    [InlineData(4, 2, 64)]
    [InlineData(7, 1, 10)]
    public void Bits_do_not_depend_on_workers_nor_on_neighbours(int n, int k, int h)
    {
        using var bench = new KernelBench();
        int[] lengths = [70, 3, 131, 1, 64];
        var tokens = lengths.Sum();
        var call = new Call<BFloat16>(bench, lengths, n, k, h);
        var d = bench.Input<BFloat16>(new(tokens, n * h));
        call.Forward(bench.Stream);
        call.Backward(bench.Stream, d);
        foreach (var workers in (int[])[1, 2, 3])
        {
            using var stream = new CpuStream(workers);
            var again = new Call<BFloat16>(bench, lengths, n, k, h, call.Qkv);
            again.Forward(stream);
            again.Backward(stream, d);
            SameBits(call.O.Span, again.O.Span);
            SameBits(call.Lse.Span, again.Lse.Span);
            SameBits(call.Dqkv.Span, again.Dqkv.Span);
        }

        var at = 0;
        foreach (var length in lengths)
        {
            var alone = new Call<BFloat16>(bench, [length], n, k, h, call.Qkv.Rows(at, length));
            alone.Forward(bench.Stream);
            alone.Backward(bench.Stream, d.Rows(at, length));
            SameBits(call.O.Rows(at, length).Span, alone.O.Span);
            SameBits(call.Dqkv.Rows(at, length).Span, alone.Dqkv.Span);
            at += length;
        }
    }

    [Theory]
    [InlineData(4, 2, 16)]
    [InlineData(2, 1, 64)]
    public void Bits_on_a_device_repeat_and_do_not_depend_on_neighbours(int n, int k, int h)
    {
        using var bench = new KernelBench(HostCuda);
        int[] lengths = [70, 3, 1, 33];
        var call = new Call<BFloat16>(bench, lengths, n, k, h);
        var d = bench.Input<BFloat16>(new(lengths.Sum(), n * h));
        call.Forward(bench.Stream);
        call.Backward(bench.Stream, d);
        var again = new Call<BFloat16>(bench, lengths, n, k, h, call.Qkv);
        again.Forward(bench.Stream);
        again.Backward(bench.Stream, d);
        SameBits(call.O.Span, again.O.Span);
        SameBits(call.Lse.Span, again.Lse.Span);
        SameBits(call.Dqkv.Span, again.Dqkv.Span);

        // the sequences around it are NaN: none of their elements may be read for this one
        var at = 0;
        foreach (var length in lengths)
        {
            var (qkv, dO) = (bench.Output<BFloat16>(call.Qkv.Shape), bench.Output<BFloat16>(d.Shape));
            call.Qkv.Rows(at, length).Span.CopyTo(qkv.Rows(at, length).Span);
            d.Rows(at, length).Span.CopyTo(dO.Rows(at, length).Span);
            var alone = new Call<BFloat16>(bench, lengths, n, k, h, qkv);
            alone.Forward(bench.Stream);
            alone.Backward(bench.Stream, dO);
            SameBits(call.O.Rows(at, length).Span, alone.O.Rows(at, length).Span);
            SameBits(call.Lse.Rows(at, length).Span, alone.Lse.Rows(at, length).Span);
            SameBits(call.Dqkv.Rows(at, length).Span, alone.Dqkv.Rows(at, length).Span);
            at += length;
        }
    }

    [Fact]
    public void A_captured_call_serves_any_batch_that_fits()
    {
        using var bench = new KernelBench(HostCuda);
        var stream = (CudaStream)bench.Stream;
        int[] first = [40, 33], second = [1, 70, 2];
        var call = new Call<BFloat16>(bench, first, 2, 1, 16, maxSequences: 3);
        var d = bench.Input<BFloat16>(new(73, 32));
        var (qkv, dO) = (bench.Put(call.Qkv), bench.Put(d));
        var (o, lse, dqkv) = (bench.Put(call.O), bench.Put(call.Lse), bench.Put(call.Dqkv));
        Attention.Forward(stream, qkv, o, lse, 2, 1, 16, call.Workspace);      // compiles: a capture cannot
        Attention.Backward(stream, dO, qkv, o, lse, dqkv, 2, 1, 16, call.Workspace);
        using var graph = stream.Capture(() =>
        {
            Attention.Forward(stream, qkv, o, lse, 2, 1, 16, call.Workspace);
            Attention.Backward(stream, dO, qkv, o, lse, dqkv, 2, 1, 16, call.Workspace);
        });
        foreach (var lengths in (int[][])[second, first])
        {
            var direct = new Call<BFloat16>(bench, lengths, 2, 1, 16, call.Qkv);
            direct.Forward(stream);
            direct.Backward(stream, d);
            call.Load(lengths);
            TensorCopy.Fill(stream, o, 0xFF);
            TensorCopy.Fill(stream, dqkv, 0xFF);
            stream.Launch(graph);
            bench.Get(o, call.O);
            bench.Get(dqkv, call.Dqkv);
            SameBits(direct.O.Span, call.O.Span);
            SameBits(direct.Dqkv.Span, call.Dqkv.Span);
        }
    }

    [Theory]
    [InlineData(64, 16, 2, 16, 16, 3)]
    [InlineData(64, 64, 3, 32, 64, 2)]
    [InlineData(128, 48, 2, 64, 32, 3)]
    public void Other_tile_sizes_compute_the_same(int tileM, int tileN, int stages, int stepM, int stepN, int backwardStages)
    {
        const int HeadDim = 32;
        AttentionVariant.Use(HeadDim, new(HeadDim, tileM, tileN, stages, stepM, stepN, backwardStages));
        try
        {
            ForwardIsTheFormula<BFloat16>(HostCuda, [130, 1, 20], 2, 1, HeadDim, 1f);
            BackwardIsTheFormula<BFloat16>(HostCuda, [130, 1, 20], 2, 1, HeadDim, 1f);
        }
        finally
        {
            AttentionVariant.Use(HeadDim, null);
        }
    }

    [Fact]
    public void Gradients_may_overwrite_qkv() => GradientsOverwrite<float>(Cpu);

    [Fact]
    public void Gradients_on_a_device_may_overwrite_qkv() => GradientsOverwrite<BFloat16>(HostCuda);

    private static void GradientsOverwrite<T>(string device)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        int[] lengths = [70, 30];
        var call = new Call<T>(bench, lengths, 4, 2, 16);
        var d = bench.Input<T>(new(100, 64));
        call.Forward(bench.Stream);
        call.Backward(bench.Stream, d);
        call.Dirty();
        var qkv = bench.Put(call.Qkv);
        Attention.Backward(bench.Stream, bench.Put(d), qkv, bench.Put(call.O), bench.Put(call.Lse), qkv, 4, 2, 16, call.Workspace);
        bench.Get(qkv, call.Qkv);
        SameBits(call.Dqkv.Span, call.Qkv.Span);
    }

    [Theory]
    [MemberData(nameof(KernelDevices.All), MemberType = typeof(KernelDevices))]
    public void Calls_allocate_nothing(string device)
    {
        using var bench = new KernelBench(device);
        var repeats = bench.IsDevice ? 2 : 20;
        int[] ends = [0, 30, 31];
        var call = new Call<BFloat16>(bench, [30, 1], 4, 2, 16);
        var d = bench.Put(bench.Input<BFloat16>(new(31, 64)));
        var (qkv, dqkv) = (bench.Put(call.Qkv), bench.Put(call.Dqkv));
        var (output, lse) = (bench.Put(call.O), bench.Put(call.Lse));
        var before = 0L;
        for (var repeat = 0; repeat < repeats; repeat++)
        {
            before = repeat == repeats / 2 ? GC.GetAllocatedBytesForCurrentThread() : before;
            call.Workspace.Load(bench.Stream, ends);
            Attention.Forward(bench.Stream, qkv, output, lse, 4, 2, 16, call.Workspace);
            Attention.Backward(bench.Stream, d, qkv, output, lse, dqkv, 4, 2, 16, call.Workspace);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void Wrong_arguments_are_named()
    {
        using var bench = new KernelBench();
        var call = new Call<float>(bench, [5], 4, 2, 8);
        var d = bench.Input<float>(new(5, 32));
        void Fails(string part, Action action) => Assert.Contains(part, Assert.Throws<ArgumentException>(action).Message);

        Fails("multiple of kvHeads", () => Attention.Forward(bench.Stream, call.Qkv, call.O, call.Lse, 4, 3, 8,
            call.Workspace));
        Fails("qkv must have shape", () => Attention.Forward(bench.Stream, call.O, call.O, call.Lse, 4, 2, 8,
            call.Workspace));
        Fails("cuSeqlens must start", () => call.Workspace.Load(bench.Stream, [1, 5]));
        Fails("cuSeqlens must start", () => call.Workspace.Load(bench.Stream, [0, 4, 3, 5]));
        Fails("cuSeqlens must have", () => call.Workspace.Load(bench.Stream, []));
        Fails("for 5 tokens; the batch has 6", () => call.Workspace.Load(bench.Stream, [0, 6]));
        call.Workspace.Load(bench.Stream, [0, 4]);
        Fails("loaded with 4 tokens; the call has 5", () => Attention.Forward(bench.Stream, call.Qkv, call.O, call.Lse, 4, 2, 8,
            call.Workspace));
        Fails("lse must have shape", () => Attention.Backward(bench.Stream, d, call.Qkv, call.O, call.Lse.Reshape(4, 5),
            call.Dqkv, 4, 2, 8, call.Workspace));
        using var arena = new Arena("small");
        var small = new AttentionWorkspace(arena, 2, 4, 4, 2, 8, backward: false);
        Assert.Contains("call Load first", Assert.Throws<InvalidOperationException>(() => Attention.Forward(
            bench.Stream, call.Qkv, call.O, call.Lse, 4, 2, 8, small)).Message);
        Fails("for 2 workers; the stream has 3", () =>
        {
            using var three = new CpuStream(3);
            Attention.Forward(three, call.Qkv, call.O, call.Lse, 4, 2, 8, small);
        });
        var other = new AttentionWorkspace(arena, 2, 5, 4, 2, 16, backward: false);
        Fails("the call has 4, 2, 8", () => Attention.Forward(bench.Stream, call.Qkv, call.O, call.Lse, 4, 2, 8, other));
    }

    [Fact]
    public void What_a_device_cannot_do_is_said()
    {
        using var bench = new KernelBench(HostCuda);
        using var arena = bench.Stream.CreateArena("workspace");
        static string Message<TException>(Action action)
            where TException : Exception => Assert.Throws<TException>(action).Message;

        Assert.Contains("multiples of 8 up to 128, not 10", Message<NotSupportedException>(() => Workspace(10)));
        Assert.Contains("multiples of 8 up to 128, not 136", Message<NotSupportedException>(() => Workspace(136)));
        var call = new Call<float>(bench, [5], 4, 2, 8);
        Assert.Contains("bfloat16", Message<NotSupportedException>(() => call.Forward(bench.Stream)));
        Assert.Contains("in the memory of", Message<ArgumentException>(() => call.Workspace.Load(bench.Cpu, [0, 5])));
        var host = new Call<BFloat16>(bench, [5], 4, 2, 8);
        Assert.Contains("qkv must be in the memory", Message<ArgumentException>(
            () => Attention.Forward(bench.Stream, host.Qkv, host.O, host.Lse, 4, 2, 8, host.Workspace)));
        var two = new AttentionWorkspace(arena, 1, 9, 4, 2, 8, backward: false, maxSequences: 2);
        Assert.Contains("for 2 sequences; the batch has 3", Message<ArgumentException>(() => two.Load(bench.Stream, [0, 1, 1, 2, 3])));

        void Workspace(int headDim) => _ = new AttentionWorkspace(arena, 1, 8, 4, 2, headDim, backward: true);
    }

    [Fact]
    public void Costs_count_causal_pairs()
    {
        int[] ends = [0, 1, 1, 4];
        Assert.Equal(1 + 6, Attention.CausalPairs(ends));
        Assert.Equal(4 * 7 * 8 * 2, Attention.ForwardCost(ends, 2, 1, 8, 2).Flops);
        Assert.Equal(10 * 7 * 8 * 2, Attention.BackwardCost(ends, 2, 1, 8, 2).Flops);
        Assert.Equal((4 * 6 * 8 * 2) + (4 * 2 * 4), Attention.ForwardCost(ends, 2, 1, 8, 2).Bytes);
    }

    private static void ForwardIsTheFormula<T>(string device, int[] lengths, int n, int k, int h, float scale)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var call = new Call<T>(bench, lengths, n, k, h, scale: scale);
        var oracle = new Oracle(lengths, n, k, h);
        var (expected, expectedLse) = oracle.Forward(KernelBench.Doubles(call.Qkv));
        var (naive, naiveLse) = oracle.NaiveForward(call.Qkv, bench.IsDevice);
        call.Forward(bench.Stream);
        NoWorseThanTwice(call.O, expected, naive, scale);
        NoWorseThanTwice(call.Lse, expectedLse, naiveLse, scale * scale * Math.Sqrt(h));
        KernelBench.RmsWithin(call.O, expected, RmsBound<T>(scale));
    }

    private static void BackwardIsTheFormula<T>(string device, int[] lengths, int n, int k, int h, float scale)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var call = new Call<T>(bench, lengths, n, k, h, scale: scale);
        var d = bench.Input<T>(call.O.Shape);
        var oracle = new Oracle(lengths, n, k, h);
        var qkv = KernelBench.Doubles(call.Qkv);
        var (o, lse) = oracle.Forward(qkv);
        var expected = oracle.Backward(KernelBench.Doubles(d), qkv, o, lse);
        call.Forward(bench.Stream);
        var naive = oracle.NaiveBackward(d, call.Qkv, call.O, call.Lse, bench.IsDevice);
        call.Backward(bench.Stream, d);
        var columns = call.Qkv.Shape.Columns;
        for (var part = 0; part < 3; part++)            // dq, dk and dv have their own size, and so their own largest error
        {
            var (from, to) = part switch { 0 => (0, n * h), 1 => (n * h, (n + k) * h), _ => ((n + k) * h, (n + (2 * k)) * h) };
            double error = 0, naiveError = 0, size = 0;
            for (var t = 0; t < call.Qkv.Shape[0]; t++)
            {
                for (var c = from; c < to; c++)
                {
                    var e = expected[(t * columns) + c];
                    var difference = Math.Abs(Lanes.Get(ref call.Dqkv.Origin, (nuint)((t * columns) + c)) - e);
                    error = double.IsNaN(difference) ? double.PositiveInfinity : Math.Max(error, difference);
                    naiveError = Math.Max(naiveError, Math.Abs(naive[(t * columns) + c] - e));
                    size = Math.Max(size, Math.Abs(e));
                }
            }

            var bound = (2 * naiveError) + (4 * KernelBench.Ulp<float>() * Math.Max(size, scale));
            Assert.True(error <= bound, $"part {part}: {error:E2} against {naiveError:E2} of the naive one, bound {bound:E2}");
        }

        // dS loses D's rounding of o when T is bfloat16: ε · |do·o| against |dP − D| of about the same size
        KernelBench.RmsWithin(call.Dqkv, expected, 4 * RmsBound<T>(scale));
    }

    private static void SameBits<T>(ReadOnlySpan<T> expected, ReadOnlySpan<T> actual)
        where T : unmanaged => Assert.True(MemoryMarshal.AsBytes(expected).SequenceEqual(MemoryMarshal.AsBytes(actual)), "other bits");

    private static double RmsBound<T>(float scale) => (typeof(T) == typeof(float) ? 1e-6 : KernelBench.Ulp<T>()) * Math.Max(1, scale);

    private static void NoWorseThanTwice<T>(Tensor<T> actual, double[] expected, double[] naive, double size)
        where T : unmanaged
    {
        var naiveError = naive.Zip(expected, (x, y) => Math.Abs(x - y)).DefaultIfEmpty().Max();
        KernelBench.Within(actual, expected, 0, (2 * naiveError) + (4 * KernelBench.Ulp<float>() * size));
    }

    /// <summary>Tensors of one forward and backward in host memory, with a workspace that is full of NaN before each call.</summary>
    private sealed class Call<T>
        where T : unmanaged
    {
        private readonly KernelBench _bench;
        private readonly int _n, _k, _h;

        public Call(
            KernelBench bench, int[] lengths, int n, int k, int h, Tensor<T> qkv = default, float scale = 1f, int maxSequences = 0)
        {
            (_bench, _n, _k, _h) = (bench, n, k, h);
            var tokens = lengths.Sum();
            Qkv = qkv.IsEmpty ? bench.Input<T>(new(tokens, (n + (2 * k)) * h), scale) : qkv;
            O = bench.Output<T>(new(tokens, n * h));
            Lse = bench.Output<float>(new(tokens, n));
            Dqkv = bench.Output<T>(Qkv.Shape);
            var arena = bench.Keep(bench.IsDevice ? bench.Stream.CreateArena("workspace") : new Arena("attention workspace", guarded: true));
            Workspace = new(arena, 3, tokens, n, k, h, backward: true, maxSequences);
            arena.Allocate();
            Load(lengths);
        }

        public Tensor<T> Qkv { get; }

        public Tensor<T> O { get; }

        public Tensor<float> Lse { get; }

        public Tensor<T> Dqkv { get; }

        public AttentionWorkspace Workspace { get; }

        public void Load(int[] lengths) => Workspace.Load(_bench.Stream, [0, .. lengths.Select((_, s) => lengths[..(s + 1)].Sum())]);

        public void Dirty()
        {
            Fill(Workspace.Scratch);
            Fill(Workspace.KeysValues);
            Fill(Workspace.Gradients);
            Fill(Workspace.Delta);
            Fill(Workspace.KeyValueGradients);

            void Fill<TElement>(Tensor<TElement> tensor)
                where TElement : unmanaged
            {
                if (!tensor.IsEmpty)
                {
                    TensorCopy.Fill(_bench.Stream, tensor, 0xFF);
                }
            }
        }

        public void Forward(ComputeStream stream)
        {
            Dirty();
            var (o, lse) = (_bench.Put(O), _bench.Put(Lse));
            Attention.Forward(stream, _bench.Put(Qkv), o, lse, _n, _k, _h, Workspace);
            _bench.Get(o, O);
            _bench.Get(lse, Lse);
        }

        public void Backward(ComputeStream stream, Tensor<T> d)
        {
            Dirty();
            var dqkv = _bench.Put(Dqkv);
            Attention.Backward(stream, _bench.Put(d), _bench.Put(Qkv), _bench.Put(O), _bench.Put(Lse), dqkv, _n, _k, _h, Workspace);
            _bench.Get(dqkv, Dqkv);
        }
    }

    /// <summary>Causal attention from the formula: in double, and naively in float.</summary>
    private sealed class Oracle(int[] lengths, int n, int k, int h)
    {
        private readonly int _tokens = lengths.Sum();

        public int Width => (n + (2 * k)) * h;

        public (double[] O, double[] Lse) Forward(double[] qkv)
        {
            var o = new double[_tokens * n * h];
            var lse = new double[_tokens * n];
            EachQuery((start, i, head) =>
            {
                var scores = new double[i - start + 1];
                for (var j = start; j <= i; j++)
                {
                    scores[j - start] = Dot(qkv, (i * Width) + (head * h), qkv, Key(j, head)) / Math.Sqrt(h);
                }

                var max = scores.Max();
                var sum = scores.Sum(s => Math.Exp(s - max));
                lse[(i * n) + head] = max + Math.Log(sum);
                for (var j = start; j <= i; j++)
                {
                    var p = Math.Exp(scores[j - start] - lse[(i * n) + head]);
                    for (var c = 0; c < h; c++)
                    {
                        o[(i * n * h) + (head * h) + c] += p * qkv[Value(j, head) + c];
                    }
                }
            });
            return (o, lse);
        }

        public double[] Backward(double[] d, double[] qkv, double[] o, double[] lse)
        {
            var gradient = new double[qkv.Length];
            var scale = 1 / Math.Sqrt(h);
            EachQuery((start, i, head) =>
            {
                var at = (i * n * h) + (head * h);
                var q = (i * Width) + (head * h);
                var total = Dot(d, at, o, at);
                for (var j = start; j <= i; j++)
                {
                    var p = Math.Exp((Dot(qkv, q, qkv, Key(j, head)) * scale) - lse[(i * n) + head]);
                    var ds = p * (Dot(d, at, qkv, Value(j, head)) - total) * scale;
                    for (var c = 0; c < h; c++)
                    {
                        gradient[Value(j, head) + c] += p * d[at + c];
                        gradient[q + c] += ds * qkv[Key(j, head) + c];
                        gradient[Key(j, head) + c] += ds * qkv[q + c];
                    }
                }
            });
            return gradient;
        }

        /// <summary>Float at every step, o rounded to T, and p too if it is said.</summary>
        public (double[] O, double[] Lse) NaiveForward<T>(Tensor<T> tensor, bool roundsP)
            where T : unmanaged
        {
            var qkv = Floats(tensor);
            var o = new double[_tokens * n * h];
            var lse = new double[_tokens * n];
            EachQuery((start, i, head) =>
            {
                var p = new float[i - start + 1];
                var max = float.NegativeInfinity;
                for (var j = start; j <= i; j++)
                {
                    p[j - start] = Dot(qkv, (i * Width) + (head * h), qkv, Key(j, head)) / MathF.Sqrt(h);
                    max = MathF.Max(max, p[j - start]);
                }

                var sum = 0f;
                for (var j = 0; j < p.Length; j++)
                {
                    p[j] = MathF.Exp(p[j] - max);
                    sum += p[j];
                }

                lse[(i * n) + head] = max + MathF.Log(sum);
                for (var c = 0; c < h; c++)
                {
                    var x = 0f;
                    for (var j = start; j <= i; j++)
                    {
                        x += Rounded<T>(p[j - start] / sum, roundsP) * qkv[Value(j, head) + c];
                    }

                    o[(i * n * h) + (head * h) + c] = Rounded<T>(x);
                }
            });
            return (o, lse);
        }

        /// <summary>Float at every step, from the stored o and lse, gradients rounded to T, and p and ds too if it is said.</summary>
        public double[] NaiveBackward<T>(Tensor<T> dTensor, Tensor<T> tensor, Tensor<T> oTensor, Tensor<float> lse, bool roundsP)
            where T : unmanaged
        {
            var (d, qkv, o) = (Floats(dTensor), Floats(tensor), Floats(oTensor));
            var gradient = new float[qkv.Length];
            var scale = 1 / MathF.Sqrt(h);
            EachQuery((start, i, head) =>
            {
                var at = (i * n * h) + (head * h);
                var q = (i * Width) + (head * h);
                var total = Dot(d, at, o, at);
                for (var j = start; j <= i; j++)
                {
                    var p = MathF.Exp((Dot(qkv, q, qkv, Key(j, head)) * scale) - lse.Span[(i * n) + head]);
                    var ds = Rounded<T>(p * (Dot(d, at, qkv, Value(j, head)) - total), roundsP) * scale;
                    p = Rounded<T>(p, roundsP);
                    for (var c = 0; c < h; c++)
                    {
                        gradient[Value(j, head) + c] += p * d[at + c];
                        gradient[q + c] += ds * qkv[Key(j, head) + c];
                        gradient[Key(j, head) + c] += ds * qkv[q + c];
                    }
                }
            });
            return [.. gradient.Select(x => (double)Rounded<T>(x))];
        }

        private static float[] Floats<T>(Tensor<T> tensor)
            where T : unmanaged => [.. KernelBench.Doubles(tensor).Select(x => (float)x)];

        private static float Rounded<T>(float x, bool rounds = true) => !rounds || typeof(T) == typeof(float) ? x : (float)(BFloat16)x;

        private int Key(int token, int head) => (token * Width) + ((n + (head / (n / k))) * h);

        private int Value(int token, int head) => Key(token, head) + (k * h);

        private double Dot(double[] x, int xAt, double[] y, int yAt)
        {
            var sum = 0.0;
            for (var c = 0; c < h; c++)
            {
                sum += x[xAt + c] * y[yAt + c];
            }

            return sum;
        }

        private float Dot(float[] x, int xAt, float[] y, int yAt)
        {
            var sum = 0f;
            for (var c = 0; c < h; c++)
            {
                sum += x[xAt + c] * y[yAt + c];
            }

            return sum;
        }

        private void EachQuery(Action<int, int, int> action)
        {
            var start = 0;
            foreach (var length in lengths)
            {
                for (var i = start; i < start + length; i++)
                {
                    for (var head = 0; head < n; head++)
                    {
                        action(start, i, head);
                    }
                }

                start += length;
            }
        }
    }
}
