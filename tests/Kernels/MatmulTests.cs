using System.Runtime.Intrinsics.X86;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>Every product, backend and element type against the sum of products in double.</summary>
[Collection("alone")]
public sealed class MatmulTests : IDisposable
{
    private readonly KernelBench _bench = new();

    public static TheoryData<MatmulBackend, MatmulOp, bool> Cases()
    {
        var cases = new TheoryData<MatmulBackend, MatmulOp, bool>();
        foreach (var backend in Enum.GetValues<MatmulBackend>())
        {
            foreach (var op in Enum.GetValues<MatmulOp>())
            {
                cases.Add(backend, op, false);
                cases.Add(backend, op, true);
            }
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Float_products_are_sums_of_products(MatmulBackend backend, MatmulOp op, bool accumulate) =>
        Check<float>(backend, op, accumulate);

    [Theory]
    [MemberData(nameof(Cases))]
    public void BFloat16_products_are_sums_of_products(MatmulBackend backend, MatmulOp op, bool accumulate) =>
        Check<BFloat16>(backend, op, accumulate);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Bias_gradient_adds_the_rows_in_their_order(bool accumulate)
    {
        foreach (var (m, n) in new[] { (1, 1), (3, 63), (17, 64), (129, 65), (70, 1376), (1, 200), (6, 5000), (4, 2063) })
        {
            MatmulCases.CheckBias<float>(_bench, m, n, accumulate);
            MatmulCases.CheckBias<BFloat16>(_bench, m, n, accumulate);
        }
    }

    [Theory]
    [InlineData(MatmulBackend.Auto)]
    [InlineData(MatmulBackend.OneDnn)]
    [InlineData(MatmulBackend.Managed)]
    [InlineData(MatmulBackend.FewRows)]
    public void Any_number_of_workers_gives_the_same_bits(MatmulBackend backend)
    {
        // without fused multiply-add in hardware each one is a call: a fifth of the size has as many tiles for the workers to share out
        var many = Fma.IsSupported ? (300, 700, 200) : (250, 280, 120);
        Assert.True(ManagedGemm.TilingOf(many.Item1, many.Item2, many.Item3).Count >= 18);
        foreach (var (m, n, k) in new[] { (3, 333, 100), many, (64, 130, 700) })
        {
            WorkersCase<float>(backend, m, n, k);
            WorkersCase<BFloat16>(backend, m, n, k);
        }
    }

    /// <summary>With so long a K a panel of B has a sliver or two of columns, and a strip of A the fewest rows.</summary>
    [Fact]
    public void Products_of_several_panels_equal_the_sum_of_products()
    {
        Use(MatmulBackend.Managed);
        MatmulCases.Check<BFloat16>(_bench, MatmulOp.ForwardBias, accumulate: true, 30, 77, 70001);
        MatmulCases.Check<float>(_bench, MatmulOp.BackwardInput, accumulate: false, 3, 70001, 50);
    }

    [Fact]
    public void Empty_extents_give_bias_zero_or_nothing()
    {
        foreach (var backend in new[] { MatmulBackend.Auto, MatmulBackend.Managed, MatmulBackend.FewRows })
        {
            Use(backend);
            var (x, w, bias) = (_bench.Input<float>(new(5, 0)), _bench.Input<float>(new(40, 0)), _bench.Input<float>(new(40)));
            var y = _bench.Output<float>(new(5, 40));
            Matmul.Forward(_bench.Stream, x, w, bias, y);
            for (var i = 0; i < 5; i++)
            {
                Assert.Equal(bias.Span, y.Row(i));
            }

            Matmul.Forward(_bench.Stream, x, w, default, y, accumulate: true);
            Assert.Equal(bias.Span, y.Row(3));
            Matmul.Forward(_bench.Stream, x, w, default, y);
            Assert.All(y.Span.ToArray(), v => Assert.Equal(0f, v));
        }

        var dw = _bench.Output<float>(new(6, 9));
        Matmul.BackwardWeight(_bench.Stream, _bench.Input<float>(new(0, 6)), _bench.Input<float>(new(0, 9)), dw, accumulate: false);
        Assert.All(dw.Span.ToArray(), v => Assert.Equal(0f, v));
        var (none, w4) = (_bench.Input<float>(new(0, 9)), _bench.Input<float>(new(4, 9)));
        Matmul.Forward(_bench.Stream, none, w4, default, _bench.Output<float>(new(0, 4)));
    }

    [Fact]
    public void Row_slices_are_operands_like_any_other()
    {
        foreach (var backend in new[] { MatmulBackend.Auto, MatmulBackend.Managed })
        {
            Use(backend);
            MatmulCases.CheckSlices(_bench, columns: 96);
            MatmulCases.CheckSlices(_bench, columns: 33);
        }
    }

    [Fact]
    public void A_few_rows_get_the_bits_that_each_row_gets_alone()
    {
        AlikeAlone<BFloat16>(130);
        AlikeAlone<BFloat16>(96);
        AlikeAlone<float>(130);
    }

    private void AlikeAlone<T>(int k)
        where T : unmanaged
    {
        const int rows = 23;                            // tiles of 8, 8, 4, 2 and 1 rows
        Use(MatmulBackend.FewRows);
        var (x, w) = (_bench.Input<T>(new(rows, k)), _bench.Input<T>(new(61, k)));
        var (together, alone) = (_bench.Output<T>(new(rows, 61)), _bench.Output<T>(new(rows, 61)));
        Matmul.Forward(_bench.Stream, x, w, default, together);
        for (var i = 0; i < rows; i++)
        {
            Matmul.Forward(_bench.Stream, x.Rows(i, 1), w, default, alone.Rows(i, 1));
        }

        Assert.Equal(alone.Span.ToArray(), together.Span.ToArray());
    }

    [Fact]
    public void Nan_and_infinity_come_through()
    {
        foreach (var backend in new[] { MatmulBackend.Auto, MatmulBackend.Managed, MatmulBackend.FewRows })
        {
            Use(backend);
            var (x, w, y) = (_bench.Input<float>(new(20, 50)), _bench.Input<float>(new(30, 50)), _bench.Output<float>(new(20, 30)));
            x.Row(7)[11] = float.NaN;
            w.Row(3)[5] = float.PositiveInfinity;
            Matmul.Forward(_bench.Stream, x, w, default, y);
            for (var i = 0; i < 20; i++)
            {
                for (var j = 0; j < 30; j++)
                {
                    var finite = i != 7 && j != 3;
                    Assert.Equal(finite, float.IsFinite(y.Row(i)[j]));
                }
            }
        }
    }

    [Theory]
    [InlineData(MatmulBackend.Auto)]
    [InlineData(MatmulBackend.Managed)]
    [InlineData(MatmulBackend.FewRows)]
    public void A_call_allocates_nothing_after_the_first(MatmulBackend backend)
    {
        Use(backend);
        var (x, w, bias) = (_bench.Input<BFloat16>(new(70, 90)), _bench.Input<BFloat16>(new(200, 90)), _bench.Input<BFloat16>(new(200)));
        var (y, dx) = (_bench.Output<BFloat16>(new(70, 200)), _bench.Output<BFloat16>(new(70, 90)));
        var (dw, dbias) = (_bench.Output<float>(new(200, 90)), _bench.Output<float>(new(200)));
        Calls(20);

        // All threads counted, for the workers run the tiles; the test runner's allocate too now and then: not in every one of ten windows.
        var least = long.MaxValue;
        for (var window = 0; window < 10 && least != 0; window++)
        {
            var before = GC.GetTotalAllocatedBytes(precise: true);
            Calls(5);
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        Assert.Equal(0, least);

        void Calls(int count)
        {
            for (var i = 0; i < count; i++)
            {
                Matmul.Forward(_bench.Stream, x, w, bias, y);
                Matmul.Forward(_bench.Stream, x.Rows(0, 1), w, bias, y.Rows(0, 1), accumulate: true);
                Matmul.BackwardInput(_bench.Stream, y, w, dx);
                Matmul.BackwardWeight(_bench.Stream, y, x, dw, accumulate: i > 0);
                Matmul.BackwardBias(_bench.Stream, y, dbias, accumulate: i > 0);
            }
        }
    }

    [Fact]
    public void A_wrong_shape_is_named()
    {
        var e = Assert.Throws<ArgumentException>(() => Matmul.Forward(
            _bench.Stream, _bench.Input<float>(new(2, 3)), _bench.Input<float>(new(4, 5)), default, _bench.Output<float>(new(2, 4))));
        Assert.Equal("x must have shape [2, 5], has [2, 3]", e.Message);
        e = Assert.Throws<ArgumentException>(() => Matmul.BackwardWeight(
            _bench.Stream, _bench.Input<float>(new(2, 3)), _bench.Input<float>(new(2, 5)), _bench.Output<float>(new(5, 3)), false));
        Assert.Equal("dw must have shape [3, 5], has [5, 3]", e.Message);
    }

    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(1024, 1376, 256)]
    [InlineData(513, 151936, 896)]
    [InlineData(3, 100000, 7)]
    [InlineData(100000, 3, 2000)]
    public void Tiles_cover_every_element_once(int m, int n, int k)
    {
        foreach (var tiling in new[] { OneDnnGemm.TilingOf(m, n, k), ManagedGemm.TilingOf(m, n, k) })
        {
            long area = 0;
            var (right, bottom) = (0, 0);
            var starts = new HashSet<(int, int)>();
            for (var i = 0; i < tiling.Count; i++)
            {
                var (row, rows, column, columns) = tiling[i];
                Assert.True(rows > 0 && columns > 0 && starts.Add((row, column)));
                area += (long)rows * columns;
                (right, bottom) = (Math.Max(right, column + columns), Math.Max(bottom, row + rows));
            }

            Assert.Equal(((long)m * n, n, m), (area, right, bottom));
        }
    }

    public void Dispose()
    {
        Matmul.Backend = MatmulBackend.Auto;
        _bench.Dispose();
    }

    private static void Use(MatmulBackend backend)
    {
        if (backend == MatmulBackend.OneDnn && !(OneDnnGemm.Supports<float>() && OneDnnGemm.Supports<BFloat16>()))
        {
            Assert.Skip(OneDnn.Description);
        }

        Matmul.Backend = backend;
    }

    private void Check<T>(MatmulBackend backend, MatmulOp op, bool accumulate)
        where T : unmanaged
    {
        Use(backend);
        MatmulCases.Check<T>(_bench, op, accumulate);
    }

    private void WorkersCase<T>(MatmulBackend backend, int m, int n, int k)
        where T : unmanaged
    {
        Use(backend);
        var (x, w, dy) = (_bench.Input<T>(new(m, k)), _bench.Input<T>(new(n, k)), _bench.Input<T>(new(m, n)));
        T[]? y1 = null, dx1 = null;
        float[]? dw1 = null, dbias1 = null;
        foreach (var workers in new[] { 1, 2, 3, 2 })
        {
            using var stream = new CpuStream(workers);
            var (y, dx) = (_bench.Output<T>(new(m, n)), _bench.Output<T>(new(m, k)));
            var (dw, dbias) = (_bench.Output<float>(new(n, k)), _bench.Output<float>(new(n)));
            Matmul.Forward(stream, x, w, default, y);
            Matmul.BackwardInput(stream, dy, w, dx);
            Matmul.BackwardWeight(stream, dy, x, dw, false);
            Matmul.BackwardBias(stream, dy, dbias, false);
            Assert.Equal(y1 ??= y.Span.ToArray(), y.Span.ToArray());
            Assert.Equal(dx1 ??= dx.Span.ToArray(), dx.Span.ToArray());
            Assert.Equal(dw1 ??= dw.Span.ToArray(), dw.Span.ToArray());
            Assert.Equal(dbias1 ??= dbias.Span.ToArray(), dbias.Span.ToArray());
        }
    }
}
