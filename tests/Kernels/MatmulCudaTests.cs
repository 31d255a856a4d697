using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>The products on a CUDA stream of hostcuda: the real interop, plans, search and cache, over cuBLASLt's twin.</summary>
[Collection("hostcuda")]
public sealed class MatmulCudaTests : IDisposable
{
    private readonly KernelBench _bench = new("hostcuda");
    private readonly string _directory = Path.Combine(Path.GetTempPath(), $"z1-matmul-{Guid.NewGuid():N}");

    private CudaStream Stream => (CudaStream)_bench.Stream;

    public static TheoryData<MatmulOp, bool> Ops()
    {
        var cases = new TheoryData<MatmulOp, bool>();
        foreach (var op in Enum.GetValues<MatmulOp>())
        {
            cases.Add(op, false);
            cases.Add(op, true);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Ops))]
    public void Products_are_sums_of_products(MatmulOp op, bool accumulate) => MatmulCases.Check<BFloat16>(_bench, op, accumulate);

    [Theory]
    [MemberData(nameof(Ops))]
    public void Products_with_a_searched_algorithm_are_too(MatmulOp op, bool accumulate)
    {
        Matmul.Tuning = new() { Search = true, CacheDirectory = _directory };
        foreach (var (m, n, k) in new[] { (3, 64, 16), (64, 127, 255), (17, 72, 64), (1, 1, 1) })
        {
            MatmulCases.Check<BFloat16>(_bench, op, accumulate, m, n, k);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Bias_gradient_is_the_column_sum(bool accumulate)
    {
        foreach (var (m, n) in new[] { (1, 1), (3, 63), (17, 64), (129, 65), (70, 264), (1, 200), (200, 256) })
        {
            MatmulCases.CheckBias<BFloat16>(_bench, m, n, accumulate);
        }
    }

    [Theory]
    [InlineData(96)]
    [InlineData(33)]
    public void Row_slices_are_operands_like_any_other(int columns) => MatmulCases.CheckSlices(_bench, columns);

    [Fact]
    public void Operands_may_start_anywhere()
    {
        // leading dimensions of a multiple of 16 bytes at addresses that are odd multiples of 2
        var (x, w) = (_bench.Input<BFloat16>(new(1 + (24 * 48))), _bench.Input<BFloat16>(new(1 + (40 * 48))));
        var y = _bench.Output<BFloat16>(new(1 + (24 * 40)));
        var to = _bench.Put(y);
        Matmul.Forward(
            Stream,
            _bench.Put(x).Rows(1, 24 * 48).Reshape(24, 48),
            _bench.Put(w).Rows(1, 40 * 48).Reshape(40, 48),
            default,
            to.Rows(1, 24 * 40).Reshape(24, 40));
        _bench.Get(to, y);
        var (xs, ws) = (KernelBench.Doubles(x.Rows(1, 24 * 48)), KernelBench.Doubles(w.Rows(1, 40 * 48)));
        new MatmulOracle(xs, ws, 24, 40, 48, 48, 1, 1, 48).Compare(y.Rows(1, 24 * 40), null, null);
        Assert.True(float.IsNaN(y.Span[0]));
    }

    [Fact]
    public void Empty_extents_give_zero_or_nothing()
    {
        var y = _bench.Output<BFloat16>(new(5, 40));
        var to = _bench.Put(y);
        var (x, w) = (_bench.Put(_bench.Input<BFloat16>(new(5, 0))), _bench.Put(_bench.Input<BFloat16>(new(40, 0))));
        Matmul.Forward(Stream, x, w, default, to);
        _bench.Get(to, y);
        Assert.All(y.Span.ToArray(), v => Assert.Equal(0f, v));
        var bias = _bench.Put(_bench.Input<BFloat16>(new(40)));
        Assert.Throws<ArgumentException>(() => Matmul.Forward(Stream, x, w, bias, to));

        var (dw, dbias) = (_bench.Output<float>(new(6, 9)), _bench.Output<float>(new(6)));
        var (toDw, toDbias) = (_bench.Put(dw), _bench.Put(dbias));
        var (dy, none) = (_bench.Put(_bench.Input<BFloat16>(new(0, 6))), _bench.Put(_bench.Input<BFloat16>(new(0, 9))));
        Matmul.BackwardWeight(Stream, dy, none, toDw, accumulate: false);
        Matmul.BackwardBias(Stream, dy, toDbias, accumulate: false);
        _bench.Get(toDw, dw);
        _bench.Get(toDbias, dbias);
        Assert.All(dw.Span.ToArray(), v => Assert.Equal(0f, v));
        Assert.All(dbias.Span.ToArray(), v => Assert.Equal(0f, v));
        Matmul.Forward(Stream, none, Input(4, 9), default, Output(0, 4));
        Stream.Synchronize();
    }

    [Fact]
    public void Nan_and_infinity_come_through()
    {
        var (x, w, y) = (_bench.Input<BFloat16>(new(20, 50)), _bench.Input<BFloat16>(new(30, 50)), _bench.Output<BFloat16>(new(20, 30)));
        x.Row(7)[11] = (BFloat16)float.NaN;
        w.Row(3)[5] = (BFloat16)float.PositiveInfinity;
        var to = _bench.Put(y);
        Matmul.Forward(Stream, _bench.Put(x), _bench.Put(w), default, to);
        _bench.Get(to, y);
        for (var i = 0; i < 20; i++)
        {
            for (var j = 0; j < 30; j++)
            {
                Assert.Equal(i != 7 && j != 3, float.IsFinite(y.Row(i)[j]));
            }
        }
    }

    [Fact]
    public void Elements_other_than_bfloat16_are_refused_by_name()
    {
        var (x, w, y) = (_bench.Input<float>(new(2, 3)), _bench.Input<float>(new(4, 3)), _bench.Output<float>(new(2, 4)));
        var e = Assert.Throws<NotSupportedException>(() => Matmul.Forward(Stream, x, w, default, y));
        Assert.Equal("Matmul.Forward on CUDA takes bfloat16 tensors, not Single", e.Message);
    }

    [Fact]
    public void A_call_allocates_nothing_after_the_first_for_its_shape()
    {
        var (x, w, bias) = (Input(70, 96), Input(200, 96), _bench.Put(_bench.Input<BFloat16>(new(200))));
        var (y, dx) = (Output(70, 200), Output(70, 96));
        var (dw, dbias) = (_bench.Put(_bench.Output<float>(new(200, 96))), _bench.Put(_bench.Output<float>(new(200))));
        void Calls()
        {
            Matmul.Forward(Stream, x, w, bias, y);
            Matmul.Forward(Stream, x.Rows(0, 1), w, bias, y.Rows(0, 1), accumulate: true);
            Matmul.BackwardInput(Stream, y, w, dx);
            Matmul.BackwardWeight(Stream, y, x, dw, accumulate: true);
            Matmul.BackwardBias(Stream, y, dbias, accumulate: true);
        }

        for (var i = 0; i < 3; i++)
        {
            Calls();
        }

        var (handles, counters) = (HostCuda.LiveHandles, HostCuda.Counters);       // two kernels of the bias gradient, four products
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 10; i++)
        {
            Calls();
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(handles, HostCuda.LiveHandles);
        Assert.Equal(10 * 6, HostCuda.Counters.Launches - counters.Launches);
        Assert.Equal(0, HostCuda.Counters.Allocations - counters.Allocations);
    }

    [Fact]
    public void Equal_inputs_give_equal_bits_with_and_without_a_search()
    {
        // hostcuda offers an in-place split of K first, whose bits change from call to call: it must never be chosen
        foreach (var search in new[] { false, true })
        {
            Matmul.Tuning = new() { Search = search };
            var (dy, x, w) = (Uneven(512, 64), Uneven(512, 48), Input(64, 48));
            var (dw, y) = (_bench.Output<float>(new(64, 48)), _bench.Output<BFloat16>(new(512, 64)));
            var (to, toY) = (_bench.Put(dw), _bench.Put(y));
            byte[]? firstDw = null, firstY = null;
            for (var i = 0; i < 4; i++)
            {
                Matmul.BackwardWeight(Stream, dy, x, to, accumulate: false);
                Matmul.Forward(Stream, x, w, default, toY);
                _bench.Get(to, dw);
                _bench.Get(toY, y);
                Assert.Equal(firstDw ??= KernelCheck.Bits(dw), KernelCheck.Bits(dw));
                Assert.Equal(firstY ??= KernelCheck.Bits(y), KernelCheck.Bits(y));
            }
        }
    }

    [Fact]
    public void A_search_touches_no_operand_and_writes_its_winner()
    {
        Matmul.Tuning = new() { Search = true, CacheDirectory = _directory };
        var (x, dy) = (Input(40, 48), Input(40, 64));
        var dw = _bench.Input<float>(new(64, 48), 4);
        var (old, to) = (KernelBench.Doubles(dw), _bench.Put(dw));
        var launches = HostCuda.Counters.Launches;
        Matmul.BackwardWeight(Stream, dy, x, to, accumulate: true);
        Assert.True(HostCuda.Counters.Launches - launches > 2 * 20, "the candidates were not timed");
        _bench.Get(to, dw);
        new MatmulOracle(Values(dy), Values(x), 64, 48, 40, 1, 64, 48, 1).Compare(dw, old, null);
        var file = Assert.Single(Directory.GetFiles(_directory, "*.txt"));
        var lines = File.ReadAllLines(file);
        Assert.Equal("z1 cublasLt algorithms 1", lines[0]);
        Assert.StartsWith("machine hostcuda 0 (sm_", lines[1], StringComparison.Ordinal);
        Assert.StartsWith("48 64 40 NT BFloat16 BFloat16 Float32 plain 256 ", lines[2], StringComparison.Ordinal);
        Assert.Equal(4, lines.Length);
    }

    [Fact]
    public void A_winner_from_disk_is_used_without_timing()
    {
        Matmul.Tuning = new() { Search = true, CacheDirectory = _directory };
        var (x, w, y) = (Input(40, 48), Input(64, 48), Output(40, 64));
        Matmul.Forward(Stream, x, w, default, y);
        var copy = Path.Combine(_directory, "copy");
        Directory.CreateDirectory(copy);
        var file = Assert.Single(Directory.GetFiles(_directory, "*.txt"));
        File.Copy(file, Path.Combine(copy, Path.GetFileName(file)));
        Matmul.Tuning = new() { Search = true, CacheDirectory = copy };
        using var other = new CudaStream(Stream.Device);
        var launches = HostCuda.Counters.Launches;
        Matmul.Forward(other, x, w, default, y);
        Assert.Equal(1, HostCuda.Counters.Launches - launches);
        other.Synchronize();
    }

    [Theory]
    [InlineData("empty")]
    [InlineData("garbage")]
    [InlineData("truncated")]
    [InlineData("one digit changed")]
    [InlineData("another machine")]
    public void A_corrupt_cache_is_ignored_and_replaced(string fault)
    {
        Matmul.Tuning = new() { Search = true, CacheDirectory = _directory };
        var (x, w, y) = (Input(40, 48), Input(64, 48), Output(40, 64));
        Matmul.Forward(Stream, x, w, default, y);
        var file = Assert.Single(Directory.GetFiles(_directory, "*.txt"));
        var good = File.ReadAllText(file);
        var digit = good.LastIndexOf("\nsha256", StringComparison.Ordinal) - 10;       // of the algorithm
        var broken = fault switch
        {
            "empty" => "",
            "garbage" => "\0\u00ffnonsense\nsha256 0\n",
            "truncated" => good[..^20],
            "one digit changed" => good[..digit] + (good[digit] == '0' ? '1' : '0') + good[(digit + 1)..],
            _ => good.Replace("sm_", "sm-", StringComparison.Ordinal),
        };
        Assert.NotEqual(good, broken);
        var directory = Path.Combine(_directory, "broken");
        Directory.CreateDirectory(directory);
        var path = Path.Combine(directory, Path.GetFileName(file));
        File.WriteAllText(path, broken);
        Matmul.Tuning = new() { Search = true, CacheDirectory = directory, Warning = Assert.Fail };
        using var other = new CudaStream(Stream.Device);
        var launches = HostCuda.Counters.Launches;
        Matmul.Forward(other, x, w, default, y);
        other.Synchronize();
        Assert.True(HostCuda.Counters.Launches - launches > 20, "an algorithm of the broken file was used");
        Assert.Equal(4, File.ReadAllLines(path).Length);
        Assert.Equal(good.Split('\n')[1], File.ReadAllLines(path)[1]);
    }

    [Fact]
    public void A_directory_that_cannot_be_written_is_one_warning_and_no_failure()
    {
        Directory.CreateDirectory(_directory);
        var file = Path.Combine(_directory, "file");
        File.WriteAllText(file, "");
        var warnings = new List<string>();
        Matmul.Tuning = new() { Search = true, CacheDirectory = Path.Combine(file, "inside"), Warning = warnings.Add };
        MatmulCases.Check<BFloat16>(_bench, MatmulOp.Forward, false, 40, 64, 48);
        MatmulCases.Check<BFloat16>(_bench, MatmulOp.Forward, false, 24, 64, 48);
        Assert.StartsWith("cublasLt: algorithms cannot be kept in ", Assert.Single(warnings), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("cublasLtCreate", 1, "CUBLAS_STATUS_NOT_INITIALIZED", true)]
    [InlineData("cublasLtMatmulDescCreate", 3, "CUBLAS_STATUS_ALLOC_FAILED", false)]
    [InlineData("cublasLtMatmulDescSetAttribute", 7, "CUBLAS_STATUS_INVALID_VALUE", false)]
    [InlineData("cublasLtMatrixLayoutCreate", 3, "CUBLAS_STATUS_ALLOC_FAILED", false)]
    [InlineData("cublasLtMatmulPreferenceCreate", 3, "CUBLAS_STATUS_ALLOC_FAILED", false)]
    [InlineData("cublasLtMatmulPreferenceSetAttribute", 7, "CUBLAS_STATUS_INVALID_VALUE", false)]
    [InlineData("cublasLtMatmulAlgoGetHeuristic", 15, "CUBLAS_STATUS_NOT_SUPPORTED", false)]
    [InlineData("cublasLtMatmul", 14, "CUBLAS_STATUS_INTERNAL_ERROR", false)]
    public void A_failing_call_is_named_leaks_nothing_and_the_next_call_works(string function, int status, string name, bool first)
    {
        using var stream = new CudaStream(Stream.Device);
        var (x, w, y) = (Input(40, 48), Input(64, 48), Output(40, 64));
        if (!first)
        {
            Matmul.Forward(stream, x.Rows(0, 8), w, default, y.Rows(0, 8));
        }

        var handles = Stream.Device.LiveHandles;
        HostCuda.Inject(function, 0, status);
        var e = Assert.Throws<CublasLtException>(() => Matmul.Forward(stream, x, w, default, y));
        Assert.Equal((status, name), (e.Status, e.Name));
        Assert.Contains(function, e.Expression, StringComparison.Ordinal);
        Assert.Contains(name, e.Message, StringComparison.Ordinal);
        if (function != "cublasLtMatmul")
        {
            Assert.Equal(handles, Stream.Device.LiveHandles);
        }

        Matmul.Forward(stream, x, w, default, y);
        var result = _bench.Output<BFloat16>(new(40, 64));
        stream.Download(y, result.Span);
        new MatmulOracle(Values(x), Values(w), 40, 64, 48, 48, 1, 1, 48).Compare(result, null, null);
    }

    [Fact]
    public void A_stream_takes_its_plans_with_it()
    {
        var (x, w, y) = (Input(40, 48), Input(64, 48), Output(40, 64));
        var handles = Stream.Device.LiveHandles;
        using (var stream = new CudaStream(Stream.Device))
        {
            Matmul.Forward(stream, x, w, default, y);
            Assert.True(Stream.Device.LiveHandles > handles + 4);
        }

        Assert.Equal(handles, Stream.Device.LiveHandles);
    }

    [Fact]
    public void A_search_without_memory_for_operands_is_a_warning_and_the_first_guess()
    {
        var warnings = new List<string>();
        MatmulCases.Check<BFloat16>(_bench, MatmulOp.Forward, false, 8, 8, 8);
        Matmul.Tuning = new() { Search = true, CacheDirectory = _directory, Warning = warnings.Add };
        var (x, w, y) = (Input(400, 480), Input(640, 480), Output(400, 640));
        HostCuda.Pretend("total_bytes", HostCuda.Counters.Allocated + (1 << 10));
        try
        {
            Matmul.Forward(Stream, x, w, default, y);
        }
        finally
        {
            HostCuda.Pretend("total_bytes", -1);
        }

        Assert.Contains("no memory to time algorithms for 640 x 400 x 480 TN", Assert.Single(warnings), StringComparison.Ordinal);
        Assert.False(Directory.Exists(_directory));
        var result = _bench.Output<BFloat16>(new(400, 640));
        _bench.Get(y, result);
        new MatmulOracle(Values(x), Values(w), 400, 640, 480, 480, 1, 1, 480).Compare(result, null, null);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Reading_past_an_operand_is_a_fault_in_words(bool synchronous)
    {
        var (x, w, y) = (Input(8, 48), Input(64, 48), Output(40, 64));
        Stream.Synchronous = synchronous;
        var key = new CublasLtMatmulKey
        {
            M = 64, N = 40, K = 48, TransposeA = true, TransposeB = false,
            TypeA = CublasLtType.BFloat16, TypeB = CublasLtType.BFloat16, TypeD = CublasLtType.BFloat16, Alignment = 256,
        };
        void Product() => MatmulPlans.Of(Stream).Run(key, Address(w), Address(x), Address(y), 0, 0, 0, accumulate: false);
        try
        {
            if (!synchronous)
            {
                Product();
            }

            var e = Assert.Throws<CudaException>(synchronous ? Product : Stream.Synchronize);
            Assert.Contains("read of B ends 3072 bytes past the end of a 768-byte allocation", e.Message, StringComparison.Ordinal);
            Assert.Equal(synchronous, e.Message.StartsWith("cublasLtMatmul of 64 x 40 x 48 TN", StringComparison.Ordinal));
            Assert.True(e.IsSticky);
            e = Assert.Throws<CudaException>(() => Matmul.Forward(Stream, x, w, default, y.Rows(0, 8)));
            Assert.True(e.IsSticky, "a product after a lost context must say so");
        }
        finally
        {
            HostCuda.ResetFault();
        }
    }

    [Fact]
    public void Products_can_be_captured_once_their_plans_exist()
    {
        var (x, w) = (_bench.Input<BFloat16>(new(40, 48)), Input(64, 48));
        var (from, to, y) = (_bench.Put(x), Output(40, 64), _bench.Output<BFloat16>(new(40, 64)));
        Matmul.Forward(Stream, from, w, default, to);
        using var graph = Stream.Capture(() => Matmul.Forward(Stream, from, w, default, to));
        foreach (var row in new[] { 0, 1 })
        {
            x.Row(row)[0] = (BFloat16)7;
            Stream.Upload<BFloat16>(x.Span, from);
            Stream.Launch(graph);
            _bench.Get(to, y);
            new MatmulOracle(KernelBench.Doubles(x), Values(w), 40, 64, 48, 48, 1, 1, 48).Compare(y, null, null);
        }
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    public void The_twin_multiplies_fp32_in_every_layout(bool transposeA, bool transposeB)
    {
        const int M = 19, N = 11, K = 37;
        var (a, b) = (_bench.Input<float>(new(M * K)), _bench.Input<float>(new(N * K)));
        var (d, bias) = (_bench.Input<float>(new(N, M), 4), _bench.Input<float>(new(M)));
        var (old, to) = (KernelBench.Doubles(d), _bench.Put(d));
        var key = new CublasLtMatmulKey
        {
            M = M, N = N, K = K, TransposeA = transposeA, TransposeB = transposeB, HasBias = true,
            TypeA = CublasLtType.Float32, TypeB = CublasLtType.Float32, TypeD = CublasLtType.Float32, Alignment = 4,
        };
        var (pa, pb, pd) = (Address(_bench.Put(a)), Address(_bench.Put(b)), Address(to));
        MatmulPlans.Of(Stream).Run(key, pa, pb, pd, Address(_bench.Put(bias)), 0, 0, accumulate: true);
        _bench.Get(to, d);

        // D by columns is [N, M] by rows: its rows are B's columns, its columns A's rows
        var (aRow, aColumn) = transposeA ? (K, 1) : (1, M);
        var (bRow, bColumn) = transposeB ? (N, 1) : (1, K);
        new MatmulOracle(KernelBench.Doubles(b), KernelBench.Doubles(a), N, M, K, bColumn, bRow, aColumn, aRow)
            .Compare(d, old, KernelBench.Doubles(bias));
    }

    [Theory]
    [InlineData("BFloat16", "Float32", "Float32", 32)]
    [InlineData("Float32", "Float32", "BFloat16", 32)]
    [InlineData("E5M2", "E5M2", "BFloat16", 32)]
    [InlineData("E4M3", "E4M3", "E4M3", 32)]
    [InlineData("E4M3", "E4M3", "BFloat16", 24)]
    [InlineData("BFloat16", "BFloat16", "BFloat16", 0)]
    public void What_cublaslt_lacks_is_an_error_that_names_the_product(string a, string b, string d, int k)
    {
        var key = new CublasLtMatmulKey
        {
            M = 32, N = 32, K = k, TransposeA = true, TransposeB = false,
            TypeA = Enum.Parse<CublasLtType>(a), TypeB = Enum.Parse<CublasLtType>(b), TypeD = Enum.Parse<CublasLtType>(d), Alignment = 256,
        };
        var x = Address(Input(32, 64));
        var plans = MatmulPlans.Of(Stream);
        var (count, handles) = (plans.Count, Stream.Device.LiveHandles);
        var e = Assert.Throws<CublasLtException>(() => plans.Run(key, x, x, x, 0, 0, 0, accumulate: false));
        Assert.Equal(k == 0 ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_NOT_SUPPORTED", e.Name);
        Assert.Contains($"32 x 32 x {k} TN {a} · {b} to {d}", e.Message, StringComparison.Ordinal);
        Assert.Equal((count, handles), (plans.Count, Stream.Device.LiveHandles));
    }

    [Fact]
    public void A_trace_shows_products_by_their_shape()
    {
        var (x, w, y) = (Input(40, 48), Input(64, 48), Output(40, 64));
        Matmul.Forward(Stream, x, w, default, y);
        using var trace = new CudaTrace(Stream);
        Stream.Trace = trace;
        Matmul.Forward(Stream, x, w, default, y);
        Matmul.BackwardInput(Stream, y, w, x);
        Stream.Trace = null;
        Assert.Equal(["matmul 64x40x48 TN", "matmul 48x40x64 NN"], trace.Read().Select(s => s.Name).Where(n => n.StartsWith('m')));
    }

    [Fact]
    public void An_algorithm_says_how_it_works()
    {
        var (x, w, y) = (Input(40, 48), Input(64, 48), Output(40, 64));
        Matmul.Forward(Stream, x, w, default, y);
        var key = new CublasLtMatmulKey
        {
            M = 64, N = 40, K = 48, TransposeA = true, TransposeB = false,
            TypeA = CublasLtType.BFloat16, TypeB = CublasLtType.BFloat16, TypeD = CublasLtType.BFloat16, Alignment = 256,
        };
        Assert.Equal("algo 66 tile 0 stages 0 splitk 1 reduction 0", MatmulPlans.Of(Stream).Describe(key));
    }

    public void Dispose()
    {
        Matmul.Tuning = new();
        _bench.Dispose();
        if (Directory.Exists(_directory))
        {
            Directory.Delete(_directory, recursive: true);
        }
    }

    private Tensor<BFloat16> Input(int rows, int columns) => _bench.Put(_bench.Input<BFloat16>(new(rows, columns)));

    /// <summary>Rows of very different size: their sums round, so that the order of adding shows.</summary>
    private Tensor<BFloat16> Uneven(int rows, int columns)
    {
        var tensor = _bench.Input<BFloat16>(new(rows, columns));
        for (var row = 0; row < rows; row++)
        {
            foreach (ref var element in tensor.Row(row))
            {
                element = (BFloat16)MathF.ScaleB(element, row % 13);
            }
        }

        return _bench.Put(tensor);
    }

    private Tensor<BFloat16> Output(int rows, int columns) => _bench.Put(_bench.Output<BFloat16>(new(rows, columns)));

    private nint Address<T>(Tensor<T> tensor)
        where T : unmanaged => Matmul.AddressOf(Stream, tensor);

    private double[] Values(Tensor<BFloat16> device)
    {
        var host = _bench.Output<BFloat16>(device.Shape);
        _bench.Get(device, host);
        return KernelBench.Doubles(host);
    }
}
