using System.Runtime.InteropServices;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>
/// Attention over pages against the formula in double, and the promise that the bits of a row depend on its sequence and position alone:
/// every test fills all pages with NaN, page 0 for good, and gives the sequences pages in no order; a key beyond what is written shows.
/// </summary>
[Collection("hostcuda")]
public sealed class AttentionPagedTests
{
    private const string Cpu = "cpu", HostCuda = "hostcuda";
    private static readonly int[] s_lengths = [1, 63, 64, 65, 130, 16, 33];

    [Theory]
    [InlineData(4, 4, 64, 16)]
    [InlineData(4, 1, 128, 64)]
    [InlineData(14, 2, 64, 32)]
    [InlineData(8, 2, 17, 7)]
    [InlineData(3, 3, 10, 1)]
    [InlineData(70, 1, 16, 16)]
    public void Chunks_and_batches_in_float_are_the_formula_and_one_row_alone(int n, int k, int h, int pageTokens) =>
        ChunksAndBatches<float>(Cpu, s_lengths, n, k, h, pageTokens);

    [Theory]
    [InlineData(2, 2, 128, 16)]
    [InlineData(4, 1, 33, 100)]
    [InlineData(14, 2, 64, 16)]
    public void Chunks_and_batches_in_bfloat16_are_the_formula_and_one_row_alone(int n, int k, int h, int pageTokens) =>
        ChunksAndBatches<BFloat16>(Cpu, s_lengths, n, k, h, pageTokens);

    [Theory]
    [InlineData(4, 2, 64, 32)]
    [InlineData(2, 1, 128, 16)]
    [InlineData(17, 1, 16, 64)]
    [InlineData(2, 2, 40, 1)]
    public void Chunks_and_batches_on_a_device_are_the_formula_and_one_row_alone(int n, int k, int h, int pageTokens) =>
        ChunksAndBatches<BFloat16>(HostCuda, [1, 63, 65, 130, 16], n, k, h, pageTokens);

    /// <summary>2,047 and 2,048 keys are 16 splits of 128, 2,049 are 11 of 192; 198 to 200 are two.</summary>
    [Fact]
    public void A_long_context_in_all_splits_of_a_device_is_the_formula()
    {
        using var bench = new KernelBench(HostCuda);
        var run = new Run<BFloat16>(bench, [2049, 200], 2, 1, 16, 32);
        run.Pass([(0, 0, 2046), (1, 0, 197)], decode: false);
        for (var t = 0; t < 3; t++)
        {
            run.Pass([(0, 2046 + t, 1), (1, 197 + t, 1)], decode: true);
        }

        run.IsTheFormula();
    }

    /// <summary>Heads of 5 and of 24 (padded on a device), and rows of keys wider than the threads of a block take at once.</summary>
    [Theory]
    [InlineData(Cpu, 3, 3, 5)]
    [InlineData(Cpu, 14, 2, 64)]
    [InlineData(HostCuda, 14, 2, 24)]
    [InlineData(HostCuda, 9, 9, 128)]
    public void Appended_rows_lie_at_their_page_and_offset_and_all_else_is_left(string device, int n, int k, int h)
    {
        using var bench = new KernelBench(device);
        int[] pages = [4, 0, 4, 2, 1], offsets = [0, 6, 3, 5, 2];
        var qkv = bench.Input<BFloat16>(new(pages.Length, (n + (2 * k)) * h));
        var shape = new Shape(5, 7, k * h);
        var (keys, values) = (bench.Output<BFloat16>(shape), bench.Output<BFloat16>(shape));
        var (kPages, vPages) = (bench.Put(keys), bench.Put(values));
        Attention.AppendToCache(
            bench.Stream, bench.Put(qkv), bench.Put(bench.Ints(pages)), bench.Put(bench.Ints(offsets)), kPages, vPages, n, k, h);
        var (keysExpected, valuesExpected) = (bench.Output<BFloat16>(shape), bench.Output<BFloat16>(shape));
        for (var t = 0; t < pages.Length; t++)
        {
            qkv.Row(t).Slice(n * h, k * h).CopyTo(keysExpected.Row((pages[t] * 7) + offsets[t]));
            qkv.Row(t).Slice((n + k) * h, k * h).CopyTo(valuesExpected.Row((pages[t] * 7) + offsets[t]));
        }

        bench.Get(kPages, keys);
        bench.Get(vPages, values);
        Assert.Equal(KernelCheck.Bits(keysExpected), KernelCheck.Bits(keys));
        Assert.Equal(KernelCheck.Bits(valuesExpected), KernelCheck.Bits(values));
    }

    [Theory]
    [MemberData(nameof(KernelDevices.All), MemberType = typeof(KernelDevices))]
    public void Queries_alone_give_the_bits_of_whole_rows(string device)
    {
        const int Heads = 7, Dim = 16;
        using var bench = new KernelBench(device);
        var run = new Run<BFloat16>(bench, [70, 20], Heads, 1, Dim, 16);
        run.Pass([(0, 0, 70), (1, 0, 20)], decode: false);
        foreach (var decode in (bool[])[false, true])
        {
            int[] starts = decode ? [0, 1, 2] : [0, 70, 90], contexts = decode ? [69, 19] : [0, 0];
            var (rows, q) = (bench.Output<BFloat16>(new(starts[^1], (Heads + 2) * Dim)), bench.Output<BFloat16>(new(starts[^1], Heads * Dim)));
            for (var s = 0; s < 2; s++)
            {
                for (var r = starts[s]; r < starts[s + 1]; r++)
                {
                    var row = run.Qkv[s].Row(contexts[s] + r - starts[s]);
                    row.CopyTo(rows.Row(r));
                    row[..(Heads * Dim)].CopyTo(q.Row(r));
                }
            }

            run.Workspace.LoadPaged(bench.Stream, starts, contexts, decode);
            var (whole, alone) = (Result(rows), Result(q));
            Assert.All(KernelBench.Doubles(alone), x => Assert.True(double.IsFinite(x)));
            Assert.Equal(KernelCheck.Bits(whole), KernelCheck.Bits(alone));
        }

        Tensor<BFloat16> Result(Tensor<BFloat16> from)
        {
            var host = bench.Output<BFloat16>(new(from.Shape[0], Heads * Dim));
            var o = bench.Put(host);
            Attention.Paged(bench.Stream, bench.Put(from), run.KPages, run.VPages, run.PageTable, o, Heads, 1, Dim, run.Workspace);
            bench.Get(o, host);
            return host;
        }
    }

    [Fact]
    public void A_sum_of_minus_zero_does_not_show_its_neighbours()
    {
        using var bench = new KernelBench();
        var run = new Run<float>(bench, [8], 1, 1, 16, 16);
        for (var t = 0; t < 8; t++)
        {
            var row = run.Qkv[0].Row(t);
            row.Fill(t == 0 ? -1f : 1f);                                       // key 0 scores −16/√16 against the others' 16/√16
            row[32..].Fill(t switch { 0 => -float.Epsilon, < 4 => -0f, _ => 1f });
        }

        run.Row(0, 0).Span[..16].Fill(1f);
        run.Alone(decode: false);
        var alone = KernelCheck.Bits(run.O[0]);
        run.Pass([(0, 0, 8)], decode: false);
        Assert.Equal(alone, KernelCheck.Bits(run.O[0]));
    }

    /// <summary>The first step ends with a sum of −2^-133, which the second, whose scores are larger, makes −0; then row 64 sees a value of −0,
    /// and the values of −1 of the rows after it, times 0, only in their company: alone there are zeros in their place.</summary>
    [Fact]
    public void A_sum_of_minus_zero_does_not_show_its_neighbours_on_a_device()
    {
        using var bench = new KernelBench(HostCuda);
        var run = new Run<BFloat16>(bench, [128], 1, 1, 16, 16);
        for (var t = 0; t < 128; t++)
        {
            var row = run.Qkv[0].Row(t);
            row[..16].Fill((BFloat16)4f);
            row[16..32].Fill((BFloat16)(t < 64 ? -4f : 4f));
            row[32..].Fill((BFloat16)(t switch { 0 => -MathF.ScaleB(1, -133), < 65 => -0f, _ => -1f }));
        }

        run.Alone(decode: false);
        Assert.True((float)run.Out(0, 0)[0] < 0 && (float)run.Out(0, 64)[0] == 0, "the case is not what it says");
        var alone = KernelCheck.Bits(run.O[0]);
        run.Pass([(0, 0, 128)], decode: false);
        Assert.Equal(alone, KernelCheck.Bits(run.O[0]));
    }

    [Fact]
    public void A_captured_pass_serves_any_that_fits()
    {
        using var bench = new KernelBench(HostCuda);
        var stream = (CudaStream)bench.Stream;
        var run = new Run<BFloat16>(bench, [80, 150], 4, 2, 16, 16);
        run.Pass([(0, 0, 80), (1, 0, 150)], decode: false);
        var (q, host) = (bench.Put(bench.Input<BFloat16>(new(230, 64))), bench.Output<BFloat16>(new(230, 64)));
        var o = bench.Put(host);
        void Call() => Attention.Paged(stream, q, run.KPages, run.VPages, run.PageTable, o, 4, 2, 16, run.Workspace);
        byte[] Result(Action action)
        {
            TensorCopy.Fill(stream, o, 0xFF);
            action();
            bench.Get(o, host);
            return KernelCheck.Bits(host);
        }

        foreach (var decode in (bool[])[false, true])
        {
            run.Workspace.LoadPaged(stream, [0, 1, 2], [7, 12], decode);
            Call();                                                            // compiles: a capture cannot
            using var graph = stream.Capture(Call);
            (int[] Starts, int[] Contexts)[] passes = decode
                ? [([0, 1, 2], [79, 149]), ([0, 0, 1], [0, 140]), ([0, 1, 2], [3, 0])]
                : [([0, 80, 230], [0, 0]), ([0, 3, 3], [60, 0]), ([0, 1, 101], [79, 50])];
            foreach (var (starts, contexts) in passes)
            {
                run.Workspace.LoadPaged(stream, starts, contexts, decode);
                var direct = Result(Call);
                Assert.Equal(direct, Result(() => stream.Launch(graph)));
                Assert.Contains(direct, b => b != 0xFF);
            }
        }
    }

    [Fact]
    public void What_a_device_cannot_do_is_said()
    {
        using var bench = new KernelBench(HostCuda);
        static string Message<TException>(Action action)
            where TException : Exception => Assert.Throws<TException>(action).Message;

        var run = new Run<BFloat16>(bench, [5], 2, 1, 8, 4);
        var (q, o) = (bench.Put(bench.Input<BFloat16>(new(5, 16))), bench.Put(bench.Output<BFloat16>(new(5, 16))));
        run.Workspace.LoadPaged(bench.Stream, [0, 5], [0], decode: false);
        void Call(Tensor<BFloat16> q, Tensor<BFloat16> keys, Tensor<BFloat16> values, Tensor<int> table) =>
            Attention.Paged(bench.Stream, q, keys, values, table, o, 2, 1, 8, run.Workspace);

        var odd = bench.Put(bench.Input<BFloat16>(new(2, 6, 8)));
        Assert.Contains("power of two", Message<ArgumentException>(() => Call(q, odd, odd, run.PageTable)));
        var host = bench.Input<BFloat16>(new(5, 16));
        Assert.Contains("q must be in the memory", Message<ArgumentException>(() => Call(host, run.KPages, run.VPages, run.PageTable)));
        var table = bench.Ints(1, 2).Reshape(1, 2);
        Assert.Contains("pageTable must be in the memory", Message<ArgumentException>(() => Call(q, run.KPages, run.VPages, table)));
        Assert.Contains("in the memory of", Message<ArgumentException>(() => run.Workspace.LoadPaged(bench.Cpu, [0, 5], [0], decode: false)));
        var (qkv, places) = (bench.Put(bench.Input<BFloat16>(new(1, 32))), bench.Put(bench.Ints(1)));
        Assert.Contains("pages must be in the memory", Message<ArgumentException>(
            () => Attention.AppendToCache(bench.Stream, qkv, bench.Ints(1), places, run.KPages, run.VPages, 2, 1, 8)));
        Assert.Contains("offsets must be in the memory", Message<ArgumentException>(
            () => Attention.AppendToCache(bench.Stream, qkv, places, bench.Ints(1), run.KPages, run.VPages, 2, 1, 8)));
        var (x, pages) = (bench.Put(bench.Input<float>(new(5, 16))), bench.Put(bench.Input<float>(new(2, 4, 8))));
        Assert.Contains("bfloat16", Message<NotSupportedException>(
            () => Attention.AppendToCache(bench.Stream, bench.Put(bench.Input<float>(new(1, 32))), places, places, pages, pages, 2, 1, 8)));
        Assert.Contains("bfloat16", Message<NotSupportedException>(
            () => Attention.Paged(bench.Stream, x, pages, pages, run.PageTable, x, 2, 1, 8, run.Workspace)));
    }

    [Fact]
    public void The_bits_are_the_same_for_any_number_of_workers()
    {
        using var bench = new KernelBench();
        var run = new Run<BFloat16>(bench, [70, 1, 130], 14, 2, 64, 16);
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            run.Pass([(0, 0, 70), (1, 0, 1), (2, 0, 130)], decode: false, stream);
            return [.. run.O.Select(KernelCheck.Bits)];
        });
    }

    [Theory]
    [MemberData(nameof(KernelDevices.All), MemberType = typeof(KernelDevices))]
    public void Calls_allocate_nothing(string device)
    {
        using var bench = new KernelBench(device);
        var run = new Run<BFloat16>(bench, [30, 12], 4, 2, 16, 16);
        run.Pass([(0, 0, 29), (1, 0, 11)], decode: false);
        var q = bench.Put(bench.Input<BFloat16>(new(8, 64)));
        var o = bench.Put(bench.Output<BFloat16>(new(8, 64)));
        var qkv = bench.Put(bench.Input<BFloat16>(new(2, 128)));
        var (pages, offsets) = (bench.Put(bench.Ints(3, 1)), bench.Put(bench.Ints(12, 15)));
        var before = 0L;
        var repeats = bench.IsDevice ? 4 : 20;
        for (var repeat = 0; repeat < repeats; repeat++)
        {
            before = repeat == repeats / 2 ? GC.GetAllocatedBytesForCurrentThread() : before;
            Attention.AppendToCache(bench.Stream, qkv, pages, offsets, run.KPages, run.VPages, 4, 2, 16);
            run.Workspace.LoadPaged(bench.Stream, [0, 3, 8], [26, 6], decode: false);
            Attention.Paged(bench.Stream, q, run.KPages, run.VPages, run.PageTable, o, 4, 2, 16, run.Workspace);
            run.Workspace.LoadPaged(bench.Stream, [0, 1, 2], [28, 10], decode: true);
            Attention.Paged(bench.Stream, q, run.KPages, run.VPages, run.PageTable, o, 4, 2, 16, run.Workspace);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void Wrong_arguments_are_named()
    {
        using var bench = new KernelBench();
        using var arena = new Arena("workspaces");
        var run = new Run<float>(bench, [10, 3], 4, 2, 8, 4);
        var (q, o) = (bench.Input<float>(new(2, 32)), bench.Output<float>(new(2, 32)));
        void Fails(string part, Action action) => Assert.Contains(part, Assert.Throws<ArgumentException>(action).Message);
        void Call(Tensor<int>? table = null, AttentionWorkspace? workspace = null, Tensor<float>? pages = null) => Attention.Paged(
            bench.Stream, q, pages ?? run.KPages, run.VPages, table ?? run.PageTable, o, 4, 2, 8, workspace ?? run.Workspace);

        Fails("rowStarts must have shape", () => run.Workspace.LoadPaged(bench.Stream, [0, 1], [0, 0], decode: false));
        Fails("rowStarts must start", () => run.Workspace.LoadPaged(bench.Stream, [1, 2], [0], decode: false));
        Fails("rowStarts must start", () => run.Workspace.LoadPaged(bench.Stream, [0, 2, 1], [0, 0], decode: false));
        Fails("contexts must not", () => run.Workspace.LoadPaged(bench.Stream, [0, 2], [-1], decode: false));
        Fails("contexts must not", () => run.Workspace.LoadPaged(bench.Stream, [0, 2], [int.MaxValue - 1], decode: false));
        Fails("at most one row", () => run.Workspace.LoadPaged(bench.Stream, [0, 2], [0], decode: true));
        Fails("the pass has 14 of 1", () => run.Workspace.LoadPaged(bench.Stream, [0, 14], [0], decode: false));
        var empty = new AttentionWorkspace(arena, 2, 0, 4, 2, 8, backward: false, pagedRows: 3, pagedSequences: 1);
        Fails("for 3 rows of 1 sequences in a pass; the pass has 2 of 2", () => empty.LoadPaged(bench.Stream, [0, 1, 2], [0, 0], decode: true));
        Assert.Contains("call LoadPaged first", Assert.Throws<InvalidOperationException>(() => Call(workspace: empty)).Message);
        run.Workspace.LoadPaged(bench.Stream, [0, 3], [0], decode: false);
        Fails("a pass of 3 rows; the call has 2", () => Call());
        run.Workspace.LoadPaged(bench.Stream, [0, 2], [8], decode: false);
        Fails("must have shape [pages, pageTokens", () => Call(pages: run.KPages.Reshape(run.KPages.Shape[0] * 4, 16)));
        Fails("has 2 pages of 4 tokens; a sequence has 10 tokens", () => Call(bench.Ints(1, 2).Reshape(1, 2)));
        Fails("must name pages", () => Call(bench.Ints(1, 2, run.KPages.Shape[0]).Reshape(1, 3)));
        Fails("must name pages", () => Call(bench.Ints(1, -1, 2).Reshape(1, 3)));
        run.Workspace.LoadPaged(bench.Stream, [0, 1, 2], [0, 0], decode: true);
        Fails("pageTable must have shape", () => Call(bench.Ints(1, 2, 3).Reshape(1, 3)));
        Assert.Throws<ArgumentOutOfRangeException>(() => new AttentionWorkspace(arena, 1, 0, 4, 2, 8, backward: false, pagedRows: -1));
    }

    [Fact]
    public void Pages_and_offsets_out_of_range_are_refused_before_anything_is_written()
    {
        using var bench = new KernelBench();
        var qkv = bench.Input<float>(new(2, 64));
        var (keys, values) = (bench.Output<float>(new(3, 4, 16)), bench.Output<float>(new(3, 4, 16)));
        var before = KernelCheck.Bits(keys);
        void Fails(string part, Tensor<int> pages, Tensor<int> offsets, Tensor<float>? other = null)
        {
            void Call() => Attention.AppendToCache(bench.Stream, qkv, pages, offsets, other ?? keys, values, 4, 2, 8);
            Assert.Contains(part, Assert.Throws<ArgumentException>(Call).Message);
        }

        foreach (var outside in (int[])[3, -1, int.MaxValue, int.MinValue])
        {
            Fails("pages must name pages", bench.Ints(0, outside), bench.Ints(0, 0));
        }

        foreach (var outside in (int[])[4, -1, int.MaxValue, int.MinValue])
        {
            Fails("offsets must be", bench.Ints(0, 1), bench.Ints(0, outside));
        }

        Fails("pages must have shape", bench.Ints(0), bench.Ints(0, 0));
        Fails("offsets must have shape", bench.Ints(0, 0), bench.Ints(0, 0, 0));
        Fails("must have shape [pages, pageTokens", bench.Ints(0, 0), bench.Ints(0, 0), keys.Reshape(12, 16));
        Fails("must have shape [pages, pageTokens", bench.Ints(0, 0), bench.Ints(0, 0), keys.Reshape(3, 8, 8));
        Assert.Equal(before, KernelCheck.Bits(keys));
        Assert.Equal(before, KernelCheck.Bits(values));
    }

    [Fact]
    public void Costs_count_keys_seen()
    {
        int[] rowStarts = [0, 2, 2, 3];
        var cost = Attention.PagedCost(rowStarts, [3, 9, 5], 4, 2, 8, 2);
        Assert.Equal(4 * (4 + 5 + 6) * 4 * 8, cost.Flops);
        Assert.Equal(((2 * (5 + 6) * 2) + (2 * 3 * 4)) * 8 * 2, cost.Bytes);
    }

    private static void ChunksAndBatches<T>(string device, int[] lengths, int n, int k, int h, int pageTokens)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var run = new Run<T>(bench, lengths, n, k, h, pageTokens);
        run.Alone(decode: false);
        run.IsTheFormula();
        byte[][] alone = [.. run.O.Select(KernelCheck.Bits)];
        var random = new Random(5);
        for (var round = 0; round < 3; round++)
        {
            run.Reset(random);
            int[] done = new int[lengths.Length];
            while (done.Zip(lengths).Any(x => x.First < x.Second))
            {
                (int Sequence, int Context, int Rows)[] pass =
                [
                    .. Enumerable.Range(0, lengths.Length).Where(_ => random.Next(4) != 0)
                        .Select(s => (s, done[s], Math.Min(random.Next(round == 0 ? 100 : 40), lengths[s] - done[s])))
                        .OrderBy(_ => random.Next()),
                ];
                run.Pass(pass, decode: false);
                foreach (var (s, _, rows) in pass)
                {
                    done[s] += rows;
                }
            }

            SameBits(alone, run);
        }

        // one row per sequence in each pass: on the CPU the same bits as prompts, on a device those of decode passes
        if (bench.IsDevice)
        {
            run.Alone(decode: true);
            run.IsTheFormula();
            alone = [.. run.O.Select(KernelCheck.Bits)];
        }

        run.Reset(random);
        for (var t = 0; t < lengths.Max(); t++)
        {
            run.Pass([.. Enumerable.Range(0, lengths.Length).Where(s => t < lengths[s]).Select(s => (s, t, 1))], decode: true);
        }

        SameBits(alone, run);
    }

    private static void SameBits<T>(byte[][] expected, Run<T> run)
        where T : unmanaged
    {
        for (var s = 0; s < expected.Length; s++)
        {
            var actual = KernelCheck.Bits(run.O[s]);
            var at = expected[s].AsSpan().CommonPrefixLength(actual);
            Assert.True(at == actual.Length, $"sequence {s} has other bits from row {at / (actual.Length / run.O[s].Shape[0])} on");
        }
    }

    /// <summary>Sequences, their pages, and the results of the passes that were run, row by row.</summary>
    private sealed class Run<T>
        where T : unmanaged
    {
        private readonly KernelBench _bench;
        private readonly int[] _lengths;
        private readonly int _n, _k, _h, _pageTokens, _pagesEach;
        private readonly int[] _pages;

        public Run(KernelBench bench, int[] lengths, int n, int k, int h, int pageTokens)
        {
            (_bench, _lengths, _n, _k, _h, _pageTokens) = (bench, lengths, n, k, h, pageTokens);
            _pagesEach = (lengths.Max() + pageTokens - 1) / pageTokens;
            _pages = new int[lengths.Length * _pagesEach];
            Qkv = [.. lengths.Select(length => bench.Input<T>(new(length, (n + (2 * k)) * h), 2f))];
            foreach (var qkv in Qkv)
            {
                for (var t = 40; t < qkv.Shape[0]; t++)
                {
                    foreach (ref var key in qkv.Row(t).Slice(n * h, k * h))    // so that a row's largest score may come late, or not
                    {
                        Lanes.Set(ref key, 0, 8 * Lanes.Get(in key, 0));
                    }
                }
            }

            O = [.. lengths.Select(length => bench.Output<T>(new(length, n * h)))];
            var shape = new Shape(_pages.Length + 1, pageTokens, k * h);
            (KPages, VPages) = (bench.Put(bench.Output<T>(shape)), bench.Put(bench.Output<T>(shape)));
            PageTable = bench.Put(bench.Allocate<int>(new(lengths.Length, _pagesEach)));
            var arena = bench.Keep(bench.IsDevice ? bench.Stream.CreateArena("workspace") : new Arena("attention workspace", guarded: true));
            Workspace = new(arena, 3, 0, n, k, h, backward: false, pagedRows: lengths.Sum(), pagedSequences: lengths.Length);
            arena.Allocate();
            Reset(new Random(1));
        }

        public Tensor<T>[] Qkv { get; }

        public Tensor<T>[] O { get; }

        public Tensor<T> KPages { get; }

        public Tensor<T> VPages { get; }

        public Tensor<int> PageTable { get; }

        public AttentionWorkspace Workspace { get; }

        public Tensor<T> Row(int sequence, int token) => Qkv[sequence].Rows(token, 1);

        public ReadOnlySpan<T> Out(int sequence, int token) => O[sequence].Row(token);

        /// <summary>Other pages for every sequence, entries after a sequence's last page that no kernel may follow, and NaN everywhere.</summary>
        public void Reset(Random random)
        {
            for (var i = 0; i < _pages.Length; i++)
            {
                _pages[i] = i + 1;
            }

            random.Shuffle(_pages);
            for (var s = 0; s < _lengths.Length; s++)
            {
                _pages.AsSpan(s * _pagesEach, _pagesEach)[((_lengths[s] + _pageTokens - 1) / _pageTokens)..].Fill(int.MinValue);
            }

            TensorCopy.Upload<int>(_bench.Stream, _pages, PageTable);
            TensorCopy.Fill(_bench.Stream, KPages, 0xFF);
            TensorCopy.Fill(_bench.Stream, VPages, 0xFF);
            foreach (var o in O)
            {
                MemoryMarshal.AsBytes(o.Span).Fill(0xFF);
            }
        }

        /// <summary>Every row in a pass of its own.</summary>
        public void Alone(bool decode)
        {
            Reset(new Random(2));
            for (var s = 0; s < _lengths.Length; s++)
            {
                for (var t = 0; t < _lengths[s]; t++)
                {
                    Pass([(s, t, 1)], decode);
                }
            }
        }

        /// <summary>Appends the rows and runs them; their order in the pass is that of the sequences' numbers in the page table.</summary>
        public void Pass((int Sequence, int Context, int Rows)[] parts, bool decode, ComputeStream? stream = null)
        {
            stream ??= _bench.Stream;
            const int Padding = 3;                                             // rows that belong to no sequence
            var rows = parts.Sum(p => p.Rows);
            var qkv = _bench.Output<T>(new(rows + Padding, Qkv[0].Shape.Columns));
            var (slots, offsets) = (new int[rows], new int[rows]);
            var (rowStarts, contexts) = (new int[_lengths.Length + 1], new int[_lengths.Length]);
            var row = 0;
            for (var s = 0; s < _lengths.Length; s++)
            {
                foreach (var (_, context, count) in parts.Where(p => p.Sequence == s))
                {
                    contexts[s] = context;
                    for (var t = context; t < context + count; t++, row++)
                    {
                        Qkv[s].Row(t).CopyTo(qkv.Row(row));
                        (slots[row], offsets[row]) = (_pages[(s * _pagesEach) + (t / _pageTokens)], t % _pageTokens);
                    }
                }

                rowStarts[s + 1] = row;
            }

            if (rows == 0)
            {
                return;
            }

            var o = _bench.Output<T>(new(rows + Padding, _n * _h));
            var (input, output) = (_bench.Put(qkv), _bench.Put(o));
            Attention.AppendToCache(
                _bench.Stream, input.Rows(0, rows), _bench.Put(_bench.Ints(slots)), _bench.Put(_bench.Ints(offsets)), KPages, VPages, _n, _k, _h);
            foreach (var scratch in (Tensor<float>[])[Workspace.Scratch, Workspace.PagedParts])
            {
                if (!scratch.IsEmpty)
                {
                    TensorCopy.Fill(_bench.Stream, scratch, 0xFF);
                }
            }

            Workspace.LoadPaged(stream, rowStarts, contexts, decode);
            Attention.Paged(stream, input, KPages, VPages, PageTable, output, _n, _k, _h, Workspace);
            _bench.Get(output, o);
            Assert.All(KernelBench.Doubles(o.Rows(rows, Padding)), x => Assert.True(double.IsNaN(x), "a row of no sequence was written"));
            for (var s = 0; s < _lengths.Length; s++)
            {
                for (var r = rowStarts[s]; r < rowStarts[s + 1]; r++)
                {
                    o.Row(r).CopyTo(O[s].Row(contexts[s] + r - rowStarts[s]));
                }
            }
        }

        /// <summary>
        /// A score errs by δ = (H + 8) · 2^-24 · Σ |q·k| / √H, H products summed in order, and a probability by a factor 1 ± 2δ; their sums
        /// over keys, the rescales and the exponential add (keys + 16) roundings, the store one of T. A device rounds each probability to
        /// bfloat16 before its product; its ex2 of a rounded argument errs by another 2^-24 · (|s| · log2 e + 4), s up to Σ |q·k| / √H.
        /// </summary>
        public void IsTheFormula()
        {
            for (var s = 0; s < _lengths.Length; s++)
            {
                var qkv = KernelBench.Doubles(Qkv[s]);
                var (width, length) = (Qkv[s].Shape.Columns, _lengths[s]);
                var (expected, bound) = (new double[length * _n * _h], new double[length * _n * _h]);
                for (var i = 0; i < length; i++)
                {
                    for (var head = 0; head < _n; head++)
                    {
                        var key = (_n + (head / (_n / _k))) * _h;
                        var (scores, largest) = (new double[i + 1], 0.0);
                        for (var j = 0; j <= i; j++)
                        {
                            var size = 0.0;
                            for (var c = 0; c < _h; c++)
                            {
                                var product = qkv[(i * width) + (head * _h) + c] * qkv[(j * width) + key + c] / Math.Sqrt(_h);
                                scores[j] += product;
                                size += Math.Abs(product);
                            }

                            largest = Math.Max(largest, size);
                        }

                        var top = scores.Max();
                        var norm = scores.Sum(x => Math.Exp(x - top));
                        var relative = (((2 * (_h + 8)) + (_bench.IsDevice ? 4 : 0)) * KernelCheck.Eps * largest) + ((i + 17) * KernelCheck.Eps)
                            + (_bench.IsDevice ? KernelCheck.Rounding<BFloat16>() + (8 * KernelCheck.Eps) : 0);
                        for (var c = 0; c < _h; c++)
                        {
                            var (sum, size) = (0.0, 0.0);
                            for (var j = 0; j <= i; j++)
                            {
                                var term = Math.Exp(scores[j] - top) / norm * qkv[(j * width) + key + (_k * _h) + c];
                                sum += term;
                                size += Math.Abs(term);
                            }

                            var at = (((i * _n) + head) * _h) + c;
                            expected[at] = sum;
                            bound[at] = (relative * size) + (KernelCheck.Rounding<T>() * (Math.Abs(sum) + (relative * size)));
                        }
                    }
                }

                KernelCheck.EachWithin(O[s], expected, i => bound[i]);
            }
        }
    }
}
