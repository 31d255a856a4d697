using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>
/// What decoding rests on: rows of <see cref="Matmul.ForwardRows"/> have the bits that each has alone, and rows of
/// <see cref="Matmul.ForwardBlock"/> have, at one fixed M, the same bits at every place among any neighbours.
/// </summary>
[Collection("alone")]
public sealed class MatmulRowsTests : IDisposable
{
    private const int MostRows = 70;
    private const int PrefillRows = 128;

    // hidden, heads, intermediate, vocabulary of nano, mini and 0.5B; two key/value heads of 64 each
    private static readonly (int Hidden, int Heads, int Intermediate, int Vocabulary)[] s_models =
        [(256, 4, 688, 8192), (512, 8, 1408, 32000), (896, 14, 4864, 151936)];

    // Where the processor has no fused multiply-add the managed code, to which ForwardBlock may turn from oneDNN too, calls a function for each:
    // the layers of all three models would take minutes. These are nano's layers, and what its shapes lack: one tile of rows, whole slivers of
    // columns, whole blocks of K, a K that four do not divide.
    private static readonly (int N, int K)[] s_withoutFma = [(512, 256), (256, 256), (1376, 256), (256, 688), (96, 896), (96, 512), (280, 17)];

    private readonly KernelBench _bench = new();

    [Theory]
    [InlineData(1, 1)]
    [InlineData(3, 17)]
    [InlineData(4, 31)]
    [InlineData(5, 32)]
    [InlineData(61, 130)]
    [InlineData(45, 688)]
    [InlineData(22, 833)]
    [InlineData(5, 4001)]             // x no longer fits one block
    public void Each_row_has_the_bits_that_it_has_alone(int n, int k)
    {
        EachRow<float>(n, k);
        EachRow<BFloat16>(n, k);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Rows_are_sums_of_products(bool accumulate)
    {
        foreach (var (m, n, k) in MatmulCases.Sizes)
        {
            Products<float>(m, n, k, accumulate);
            Products<BFloat16>(m, n, k, accumulate);
        }
    }

    [Fact]
    public void Rows_have_the_same_bits_for_any_workers_and_backend()
    {
        AnyWorkers<float>();
        AnyWorkers<BFloat16>();
    }

    [Fact]
    public void Nan_and_infinity_stay_in_their_row_and_column()
    {
        var (x, w, y) = (_bench.Input<BFloat16>(new(20, 50)), _bench.Input<BFloat16>(new(30, 50)), _bench.Output<BFloat16>(new(20, 30)));
        x.Row(7)[11] = (BFloat16)float.NaN;
        w.Row(3)[5] = (BFloat16)float.PositiveInfinity;
        Matmul.ForwardRows(_bench.Stream, x, w, default, y);
        for (var i = 0; i < 20; i++)
        {
            for (var j = 0; j < 30; j++)
            {
                Assert.Equal(i != 7 && j != 3, float.IsFinite((float)y.Row(i)[j]));
            }
        }
    }

    [Fact]
    public void Wrong_shapes_are_named()
    {
        var e = Assert.Throws<ArgumentException>(() => Matmul.ForwardRows(
            _bench.Stream, _bench.Input<float>(new(2, 3)), _bench.Input<float>(new(4, 5)), default, _bench.Output<float>(new(2, 4))));
        Assert.Equal("x must have shape [2, 5], has [2, 3]", e.Message);
    }

    [Theory]
    [InlineData(MatmulBackend.Auto)]
    [InlineData(MatmulBackend.OneDnn)]
    [InlineData(MatmulBackend.Managed)]
    public void At_128_rows_a_row_has_the_same_bits_at_every_place(MatmulBackend backend)
    {
        if (backend == MatmulBackend.OneDnn && !OneDnnGemm.Supports<float>())
        {
            Assert.Skip(OneDnn.Description);
        }

        Matmul.Backend = backend;
        foreach (var (n, k) in Fma.IsSupported ? Layers(backend) : s_withoutFma)
        {
            AnyPlace<float>(n, k);
            if (backend != MatmulBackend.OneDnn || OneDnnGemm.Supports<BFloat16>())
            {
                AnyPlace<BFloat16>(n, k);
            }
        }
    }

    /// <summary>
    /// Which bits a row gets may depend on the tile of rows and the sliver that it is in, on the sliver's last columns and on the blocks of K:
    /// <see cref="s_withoutFma"/> has them all.
    /// </summary>
    [Fact]
    public void The_shapes_for_processors_without_fma_have_every_tile_and_tail()
    {
        Assert.All(s_withoutFma.Concat(Layers(MatmulBackend.Managed)), s => Assert.Equal(6, TilesOfRows(s.N, s.K)));
        foreach (var columns in new[] { 24, 32 })                  // of a sliver
        {
            Assert.Empty(Layers(MatmulBackend.Managed).Select(s => s.N % columns).Except(s_withoutFma.Select(s => s.N % columns)));
        }

        Assert.Contains(s_withoutFma, s => s.K < 256);             // less than one block of K, one, and several with and without a rest
        Assert.Contains(s_withoutFma, s => s.K == 256);
        Assert.Contains(s_withoutFma, s => s.K > 256 && s.K % 256 == 0);
        Assert.Contains(s_withoutFma, s => s.K > 512 && s.K % 256 != 0);

        static int TilesOfRows(int n, int k)
        {
            var tiling = ManagedGemm.TilingOf(PrefillRows, n, k);
            return Enumerable.Range(0, tiling.Count).Select(i => tiling[i].Row).Distinct().Count();
        }
    }

    public void Dispose()
    {
        Matmul.Backend = MatmulBackend.Auto;
        _bench.Dispose();
    }

    /// <summary>The linear layers of the models. LM heads always take ForwardRows; that of 0.5B does not fit beside other tests, and the managed
    /// code leaves out the other two as well.</summary>
    private static IEnumerable<(int N, int K)> Layers(MatmulBackend backend) =>
        from model in s_models
        let columns = model.Heads * 64
        from shape in new[]
        {
            (columns + 256, model.Hidden), (model.Hidden, columns), (2 * model.Intermediate, model.Hidden), (model.Hidden, model.Intermediate),
            (model.Vocabulary, model.Hidden),
        }
        where (long)shape.Item1 * shape.Item2 <= 20_000_000 && (shape.Item1 != model.Vocabulary || backend != MatmulBackend.Managed)
        select shape;

    private static ReadOnlySpan<byte> Bits<T>(Tensor<T> tensor)
        where T : unmanaged => MemoryMarshal.AsBytes(tensor.Span);

    /// <summary>Values with all bits of T in use, so that another order of the sum shows.</summary>
    private Tensor<T> Rough<T>(int rows, int columns, int seed)
        where T : unmanaged
    {
        var (random, values) = (new Random(seed), new double[rows * columns]);
        foreach (ref var value in values.AsSpan())
        {
            value = ((2 * random.NextDouble()) - 1) * Math.ScaleB(1, random.Next(-6, 7));
        }

        return _bench.Copy<T>(new(rows, columns), values);
    }

    private void EachRow<T>(int n, int k)
        where T : unmanaged
    {
        var (x, w, bias, old) = (Rough<T>(MostRows, k, 1), Rough<T>(n, k, 2), Rough<T>(1, n, 3).Reshape(n), Rough<T>(MostRows, n, 4));
        var (plain, added) = (_bench.Output<T>(new(MostRows, n)), _bench.Output<T>(new(MostRows, n)));
        old.Span.CopyTo(added.Span);
        for (var i = 0; i < MostRows; i++)
        {
            Matmul.ForwardRows(_bench.Stream, x.Rows(i, 1), w, default, plain.Rows(i, 1));
            Matmul.ForwardRows(_bench.Stream, x.Rows(i, 1), w, bias, added.Rows(i, 1), accumulate: true);
        }

        var y = _bench.Output<T>(new(MostRows, n));
        for (var m = 1; m <= MostRows; m++)
        {
            var first = m * 31 % (MostRows - m + 1);               // a run of rows that starts elsewhere for each m
            var here = y.Rows(MostRows - m, m);                     // the last row ends at an inaccessible page
            Matmul.ForwardRows(_bench.Stream, x.Rows(first, m), w, default, here);
            Assert.True(Bits(here).SequenceEqual(Bits(plain.Rows(first, m))), $"{m} rows from {first}, N = {n}, K = {k}, {typeof(T).Name}");
            old.Rows(first, m).Span.CopyTo(here.Span);
            Matmul.ForwardRows(_bench.Stream, x.Rows(first, m), w, bias, here, accumulate: true);
            Assert.True(Bits(here).SequenceEqual(Bits(added.Rows(first, m))), $"{m} rows from {first}, with bias and old value, {typeof(T).Name}");
        }
    }

    private void Products<T>(int m, int n, int k, bool accumulate)
        where T : unmanaged
    {
        var (x, w, bias) = (_bench.Input<T>(new(m, k)), _bench.Input<T>(new(n, k)), _bench.Input<T>(new(n)));
        var y = accumulate ? _bench.Input<T>(new(m, n), 4) : _bench.Output<T>(new(m, n));
        var old = accumulate ? KernelBench.Doubles(y) : null;
        Matmul.ForwardRows(_bench.Stream, x, w, bias, y, accumulate);
        new MatmulOracle(KernelBench.Doubles(x), KernelBench.Doubles(w), m, n, k, k, 1, 1, k).Compare(y, old, KernelBench.Doubles(bias));
    }

    private void AnyWorkers<T>()
        where T : unmanaged
    {
        foreach (var (m, n, k) in new[] { (1, 333, 100), (9, 333, 100), (64, 130, 700) })
        {
            var (x, w) = (Rough<T>(m, k, 5), Rough<T>(n, k, 6));
            byte[]? expected = null;
            foreach (var (workers, backend) in new[]
                     { (1, MatmulBackend.Auto), (2, MatmulBackend.Managed), (3, MatmulBackend.FewRows), (5, MatmulBackend.Auto) })
            {
                Matmul.Backend = backend;
                using var stream = new CpuStream(workers);
                var y = _bench.Output<T>(new(m, n));
                Matmul.ForwardRows(stream, x, w, default, y);
                expected ??= Bits(y).ToArray();
                Assert.True(Bits(y).SequenceEqual(expected), $"{workers} workers, {backend}, [{m}, {n}, {k}], {typeof(T).Name}");
            }
        }
    }

    /// <summary>Three probes among rows of one kind; then each probe at every place among rows of another kind.</summary>
    private void AnyPlace<T>(int n, int k)
        where T : unmanaged
    {
        using var bench = new KernelBench();
        var (x, y) = (bench.Output<T>(new(PrefillRows, k)), bench.Output<T>(new(PrefillRows, n)));
        var (w, probes, others) = (bench.Input<T>(new(n, k)), Rough<T>(3, k, 7), Rough<T>(PrefillRows, k, 8));
        var expected = new byte[3][];
        for (var round = 0; round <= 4; round++)
        {
            for (var i = 0; i < PrefillRows; i++)
            {
                // round 0: the probes stand first and the rest is padding of zeros; later three rows of four are probes, and each visits every place
                var probe = round == 0 ? i : (i + round) % 4;
                if (probe < 3)
                {
                    probes.Row(probe).CopyTo(x.Row(i));
                }
                else if (round == 0)
                {
                    x.Row(i).Clear();
                }
                else
                {
                    others.Row((i * 5) % PrefillRows).CopyTo(x.Row(i));
                }
            }

            Matmul.ForwardBlock(bench.Stream, x, w, default, y);
            for (var i = 0; i < PrefillRows; i++)
            {
                var probe = round == 0 ? i : (i + round) % 4;
                if (probe >= 3)
                {
                    continue;
                }

                expected[probe] ??= Bits(y.Rows(i, 1)).ToArray();
                Assert.True(
                    Bits(y.Rows(i, 1)).SequenceEqual(expected[probe]), $"place {i}, round {round}, N = {n}, K = {k}, {typeof(T).Name}, {Matmul.Backend}");
            }
        }
    }
}
