using System.Runtime.InteropServices;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>
/// AttentionHopper.cu on hostcuda, against the formula in double. Bounds count roundings. With u = 2^-8 (one rounding to bfloat16) and
/// ε = 2^-24: a score errs by δ = (H + 8) ε Σ|q·k| / √H, a probability by a factor 1 ± r with r = 2δ + (len + 16) ε, and is rounded
/// before its products, as dS is; o, dq, dk and dv are rounded once more; D = do·o inherits the error of the stored o.
/// </summary>
[Collection("hostcuda")]
public sealed class AttentionHopperTests
{
    /// <summary>Lengths; N, K, H; scale of the inputs. Lengths around tiles of 128, 64 and 16 rows, single tokens between them.</summary>
    public static TheoryData<int[], int, int, int, float> Cases => new()
    {
        { [1], 1, 1, 64, 1f },
        { [1, 127, 1, 129], 2, 1, 64, 1f },
        { [63, 65, 128, 1], 2, 2, 64, 2f },
        { [17, 0, 300], 3, 1, 64, 1f },
        { [1, 1, 1], 6, 2, 128, 1f },
        { [130, 257], 2, 1, 128, 1f },
        { [192, 16], 4, 2, 128, 2f },
        { [100, 31], 7, 1, 128, 4f },
        { [520], 3, 1, 64, 1f },
        { [515, 515], 2, 1, 64, 1f },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_and_backward_are_the_formula(int[] lengths, int n, int k, int h, float scale)
    {
        using var bench = new KernelBench("hostcuda");
        var call = new Call(bench, lengths, n, k, h, scale);
        call.Forward();
        call.Backward();
        var oracle = new Oracle(lengths, n, k, h, KernelBench.Doubles(call.Qkv), KernelBench.Doubles(call.D));
        Within("o", KernelBench.Doubles(call.O), oracle.O, oracle.OBound);
        Within("lse", KernelBench.Doubles(call.Lse), oracle.Lse, oracle.LseBound);
        Within("dqkv", KernelBench.Doubles(call.Dqkv), oracle.Dqkv, oracle.DqkvBound);
        KernelBench.RmsWithin(call.O, oracle.O, KernelBench.Ulp<BFloat16>());
        KernelBench.RmsWithin(call.Dqkv, oracle.Dqkv, 2 * KernelBench.Ulp<BFloat16>());
    }

    /// <summary>On the 4 multiprocessors of hostcuda: a split per query head, two uneven splits, no split; and on the 132 of an H200 at the
    /// batch of the recipes and at four times its tokens.</summary>
    [Theory]
    [InlineData(4, 131, 7, 1, 1)]
    [InlineData(4, 520, 3, 1, 2)]
    [InlineData(4, 1030, 2, 1, 2)]
    [InlineData(4, 0, 4, 2, 1)]
    [InlineData(132, 5120, 12, 2, 2)]
    [InlineData(132, 20480, 12, 2, 6)]
    public void Key_heads_are_split_where_there_are_few_tiles(int multiprocessors, int tokens, int n, int k, int heads) =>
        Assert.Equal(heads, AttentionHopper.SplitHeads(multiprocessors, tokens, n, k));

    [Theory]
    [InlineData(64, 64, 2, 64, 2)]
    [InlineData(64, 192, 3, 128, 4)]
    [InlineData(128, 64, 3, 64, 2)]
    public void Other_tile_sizes_compute_the_same(int h, int tileN, int stages, int stepN, int stepStages)
    {
        using var bench = new KernelBench("hostcuda");
        int[] lengths = [200, 9];
        var call = new Call(bench, lengths, 2, 1, h);
        call.Workspace.Hopper = new(h, tileN, stages, stepN, stepStages);
        call.Forward();
        call.Backward();
        var oracle = new Oracle(lengths, 2, 1, h, KernelBench.Doubles(call.Qkv), KernelBench.Doubles(call.D));
        Within("o", KernelBench.Doubles(call.O), oracle.O, oracle.OBound);
        Within("lse", KernelBench.Doubles(call.Lse), oracle.Lse, oracle.LseBound);
        Within("dqkv", KernelBench.Doubles(call.Dqkv), oracle.Dqkv, oracle.DqkvBound);
    }

    [Theory]
    [InlineData(64, 1)]
    [InlineData(128, 1)]
    [InlineData(64, 2)]
    public void Two_runs_give_equal_bits_in_place_too_and_do_not_depend_on_neighbours(int h, int k)
    {
        using var bench = new KernelBench("hostcuda");
        int[] lengths = [70, 1, 131];
        var call = new Call(bench, lengths, 2, k, h);
        call.Forward();
        call.Backward();
        var again = new Call(bench, lengths, 2, k, h, qkv: call.Qkv, d: call.D);
        again.Forward();
        again.Backward(inPlace: true);
        SameBits(call.O.Span, again.O.Span);
        SameBits(call.Lse.Span, again.Lse.Span);
        SameBits(call.Dqkv.Span, again.Dqkv.Span);
        var at = 0;
        foreach (var length in lengths)
        {
            var alone = new Call(bench, [length], 2, k, h, qkv: call.Qkv.Rows(at, length), d: call.D.Rows(at, length));
            alone.Forward();
            alone.Backward();
            SameBits(call.O.Rows(at, length).Span, alone.O.Span);
            SameBits(call.Lse.Rows(at, length).Span, alone.Lse.Span);
            SameBits(call.Dqkv.Rows(at, length).Span, alone.Dqkv.Span);
            at += length;
        }
    }

    /// <summary>The rows that a tile reads of its neighbour must not count, however large they are.</summary>
    [Fact]
    public void Large_neighbours_change_no_bit()
    {
        using var bench = new KernelBench("hostcuda");
        var call = new Call(bench, [40, 30], 2, 1, 64);
        call.Forward();
        call.Backward();
        var qkv = bench.Copy<BFloat16>(call.Qkv.Shape, KernelBench.Doubles(call.Qkv));
        var d = bench.Copy<BFloat16>(call.D.Shape, KernelBench.Doubles(call.D));
        Enlarge(qkv.Rows(40, 30).Span);
        Enlarge(d.Rows(40, 30).Span);
        var again = new Call(bench, [40, 30], 2, 1, 64, qkv: qkv, d: d);
        again.Forward();
        again.Backward();
        SameBits(call.O.Rows(0, 40).Span, again.O.Rows(0, 40).Span);
        SameBits(call.Dqkv.Rows(0, 40).Span, again.Dqkv.Rows(0, 40).Span);
        Assert.NotEqual(KernelBench.Doubles(call.O.Rows(40, 30)), KernelBench.Doubles(again.O.Rows(40, 30)));

        static void Enlarge(Span<BFloat16> values)
        {
            foreach (ref var v in values)
            {
                v = (BFloat16)MathF.ScaleB((float)v, 40);
            }
        }
    }

    /// <summary>A captured launch has the grid and the tiles of the largest batch; a replay computes the batch loaded last.</summary>
    [Fact]
    public void A_graph_serves_every_batch_that_fits()
    {
        using var bench = new KernelBench("hostcuda");
        var stream = (CudaStream)bench.Stream;
        var call = new Call(bench, [200, 3, 1], 2, 1, 64);
        call.Forward();
        call.Backward();
        var graph = call.Capture(stream, () => call.Workspace.Load(stream, [0, 5, 204]));
        call.Workspace.Load(stream, [0, 200, 203, 204]);
        stream.Launch(graph);
        var (o, dqkv) = call.Download();
        SameBits(call.O.Span, o.Span);
        SameBits(call.Dqkv.Span, dqkv.Span);
        graph.Dispose();
    }

    [Fact]
    public void The_architecture_chooses_the_path()
    {
        using var bench = new KernelBench("hostcuda");
        Assert.False(Workspace(KernelDevices.HostCuda, 64).UsesHopper);
        HostCuda.Pretend("compute_capability", 90);
        try
        {
            using var hopper = CudaDevice.Open(CudaDriver.HostCuda);
            Assert.Equal("sm_90a", hopper.Architecture);
            Assert.True(Workspace(hopper, 64).UsesHopper);
            Assert.True(Workspace(hopper, 128).UsesHopper);
            Assert.False(Workspace(hopper, 16).UsesHopper);
            var portable = Workspace(hopper, 128);
            portable.Path = AttentionPath.Portable;
            Assert.False(portable.UsesHopper);
        }
        finally
        {
            HostCuda.Pretend("compute_capability", -1);
        }

        static AttentionWorkspace Workspace(CudaDevice device, int headDim)
        {
            using var arena = new Arena("workspace", device);
            return new(arena, 1, 10, 2, 2, headDim, backward: true);
        }
    }

    /// <summary>What ptxas says of every variant: no spill, no wgmma waited for one by one (C7510 to C7515), setmaxnreg heeded (C7508),
    /// and entry registers of 168, which setmaxnreg trades between the warpgroups.</summary>
    [Fact]
    public void Ptxas_keeps_wgmma_asynchronous_and_spills_nothing()
    {
        if (!KernelCompiler.HasNvrtc(out var reason))
        {
            Assert.Skip(reason);
        }

        foreach (var kernel in AttentionHopper.CudaKernels)
        {
            var image = KernelCompiler.CompileFor("sm_90a", kernel.Source, kernel.Constants);
            var used = Assert.Single(image.Resources, r => r.Entry == kernel.Entry);
            Assert.Equal(0, used.SpillStoreBytes + used.SpillLoadBytes + used.StackBytes);
            if (kernel.Entry != "attention_hopper_sum")
            {
                // setmaxnreg moves exactly these between the warp groups (24 + 2 x 240 = 3 x 168); with fewer the second would wait for ever
                Assert.Equal(168, used.Registers);
            }

            Assert.DoesNotContain("(C7", image.Log);
        }
    }

    private static void Within(string name, double[] actual, double[] expected, double[] bounds)
    {
        for (var i = 0; i < expected.Length; i++)
        {
            if (!(Math.Abs(actual[i] - expected[i]) <= bounds[i]))
            {
                Assert.Fail($"{name}[{i}] is {actual[i]:R}, expected {expected[i]:R} within {bounds[i]:E2}");
            }
        }
    }

    private static void SameBits<T>(ReadOnlySpan<T> expected, ReadOnlySpan<T> actual)
        where T : unmanaged => Assert.True(MemoryMarshal.AsBytes(expected).SequenceEqual(MemoryMarshal.AsBytes(actual)), "other bits");

    /// <summary>One batch on hostcuda by AttentionHopper.cu; results come back into host tensors that were full of NaN.</summary>
    private sealed class Call
    {
        private readonly KernelBench _bench;
        private readonly int _n, _k, _h;
        private readonly Tensor<BFloat16> _qkv, _o, _d, _dqkv;
        private readonly Tensor<float> _lse;

        public Call(
            KernelBench bench, int[] lengths, int n, int k, int h, float scale = 1f, Tensor<BFloat16> qkv = default,
            Tensor<BFloat16> d = default)
        {
            (_bench, _n, _k, _h) = (bench, n, k, h);
            var tokens = lengths.Sum();
            Qkv = qkv.IsEmpty ? bench.Input<BFloat16>(new(tokens, (n + (2 * k)) * h), scale) : qkv;
            D = d.IsEmpty ? bench.Input<BFloat16>(new(tokens, n * h)) : d;
            O = bench.Output<BFloat16>(new(tokens, n * h));
            Lse = bench.Output<float>(new(tokens, n));
            Dqkv = bench.Output<BFloat16>(Qkv.Shape);
            (_qkv, _d, _o, _lse, _dqkv) = (bench.Put(Qkv), bench.Put(D), bench.Put(O), bench.Put(Lse), bench.Put(Dqkv));
            var arena = bench.Stream.CreateArena("attention workspace");
            Workspace = new(arena, 1, tokens, n, k, h, backward: true) { Path = AttentionPath.Hopper };
            bench.Keep(arena).Allocate();
            Workspace.Load(bench.Stream, [0, .. lengths.Select((_, s) => lengths[..(s + 1)].Sum())]);
            Assert.True(Workspace.UsesHopper);
        }

        public Tensor<BFloat16> Qkv { get; }

        public Tensor<BFloat16> D { get; }

        public Tensor<BFloat16> O { get; }

        public Tensor<float> Lse { get; }

        public Tensor<BFloat16> Dqkv { get; }

        public AttentionWorkspace Workspace { get; }

        public void Forward()
        {
            EnqueueForward();
            _bench.Get(_o, O);
            _bench.Get(_lse, Lse);
        }

        public void Backward(bool inPlace = false)
        {
            var to = inPlace ? _qkv : _dqkv;
            EnqueueBackward(to);
            _bench.Get(to, Dqkv);
        }

        /// <summary>Forward and backward as a graph; the batch before it is another one.</summary>
        public CudaGraph Capture(CudaStream stream, Action loadAnother)
        {
            loadAnother();
            stream.Fill(_o, 0xFF);
            stream.Fill(_dqkv, 0xFF);
            return stream.Capture(() =>
            {
                EnqueueForward();
                EnqueueBackward(_dqkv);
            });
        }

        public (Tensor<BFloat16> O, Tensor<BFloat16> Dqkv) Download()
        {
            var (o, dqkv) = (_bench.Output<BFloat16>(O.Shape), _bench.Output<BFloat16>(Dqkv.Shape));
            _bench.Get(_o, o);
            _bench.Get(_dqkv, dqkv);
            return (o, dqkv);
        }

        private void EnqueueForward() => Attention.Forward(_bench.Stream, _qkv, _o, _lse, _n, _k, _h, Workspace);

        private void EnqueueBackward(Tensor<BFloat16> to) =>
            Attention.Backward(_bench.Stream, _d, _qkv, _o, _lse, to, _n, _k, _h, Workspace);
    }

    /// <summary>The formula, and what its roundings may do to each element.</summary>
    private sealed class Oracle
    {
        private const double Eps = 1.0 / (1 << 24), U = 1.0 / (1 << 8);

        public Oracle(int[] lengths, int n, int k, int h, double[] qkv, double[] d)
        {
            var (tokens, width, scale) = (lengths.Sum(), (n + (2 * k)) * h, 1 / Math.Sqrt(h));
            (O, OBound) = (new double[tokens * n * h], new double[tokens * n * h]);
            (Lse, LseBound) = (new double[tokens * n], new double[tokens * n]);
            (Dqkv, DqkvBound) = (new double[tokens * width], new double[tokens * width]);
            var start = 0;
            foreach (var length in lengths)
            {
                for (var i = start; i < start + length; i++)
                {
                    for (var head = 0; head < n; head++)
                    {
                        Row(start, i, head, length);
                    }
                }

                start += length;
            }

            for (var i = 0; i < Dqkv.Length; i++)
            {
                DqkvBound[i] += U * (Math.Abs(Dqkv[i]) + DqkvBound[i]);
            }

            void Row(int first, int i, int head, int length)
            {
                var (q, at) = ((i * width) + (head * h), ((i * n) + head) * h);
                var (kHead, vHead) = ((n + (head / (n / k))) * h, (n + k + (head / (n / k))) * h);
                var count = i - first + 1;
                var (scores, sizes) = (new double[count], 0.0);
                for (var j = 0; j < count; j++)
                {
                    double size = 0;
                    for (var c = 0; c < h; c++)
                    {
                        var product = qkv[q + c] * qkv[((first + j) * width) + kHead + c] * scale;
                        scores[j] += product;
                        size += Math.Abs(product);
                    }

                    sizes = Math.Max(sizes, size);
                }

                var top = scores.Max();
                var lse = top + Math.Log(scores.Sum(s => Math.Exp(s - top)));
                var delta = (h + 8) * Eps * sizes;
                var relative = (2 * delta) + ((length + 16) * Eps);
                Lse[(i * n) + head] = lse;
                LseBound[(i * n) + head] = delta + ((length + 8) * Eps) + (8 * Eps * (Math.Abs(lse) + Math.Abs(top)));
                for (var j = 0; j < count; j++)
                {
                    var p = scores[j] = Math.Exp(scores[j] - lse);
                    for (var c = 0; c < h; c++)
                    {
                        var v = qkv[((first + j) * width) + vHead + c];
                        O[at + c] += p * v;
                        OBound[at + c] += (U + relative) * p * Math.Abs(v);
                    }
                }

                double dot = 0, dotBound = 0;
                for (var c = 0; c < h; c++)
                {
                    OBound[at + c] += U * (Math.Abs(O[at + c]) + OBound[at + c]);
                    dot += d[at + c] * O[at + c];
                    dotBound += Math.Abs(d[at + c]) * (OBound[at + c] + (h * Eps * Math.Abs(O[at + c])));
                }

                for (var j = 0; j < count; j++)
                {
                    var (key, value) = (((first + j) * width) + kHead, ((first + j) * width) + vHead);
                    double product = 0, size = 0;
                    for (var c = 0; c < h; c++)
                    {
                        product += d[at + c] * qkv[value + c];
                        size += Math.Abs(d[at + c] * qkv[value + c]);
                    }

                    var p = scores[j];
                    var ds = p * (product - dot);
                    var dsBound = (p * (1 + relative) * ((h * Eps * size) + dotBound)) + (relative * Math.Abs(ds));
                    dsBound += U * (Math.Abs(ds) + dsBound);
                    var terms = (n / k * length) + 8;               // of the longest sum
                    for (var c = 0; c < h; c++)
                    {
                        Dqkv[q + c] += ds * scale * qkv[key + c];
                        Dqkv[key + c] += ds * scale * qkv[q + c];
                        Dqkv[value + c] += p * d[at + c];
                        var bound = (dsBound + (terms * Eps * Math.Abs(ds))) * scale;
                        DqkvBound[q + c] += bound * Math.Abs(qkv[key + c]);
                        DqkvBound[key + c] += bound * Math.Abs(qkv[q + c]);
                        DqkvBound[value + c] += (U + relative + (terms * Eps)) * p * Math.Abs(d[at + c]);
                    }
                }
            }
        }

        public double[] O { get; }

        public double[] OBound { get; }

        public double[] Lse { get; }

        public double[] LseBound { get; }

        public double[] Dqkv { get; }

        public double[] DqkvBound { get; }
    }
}
