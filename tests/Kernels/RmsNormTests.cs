using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class RmsNormTests
{
    private const float Eps = 1e-6f;

    public static TheoryData<string, int, int> Shapes
    {
        get
        {
            var data = new TheoryData<string, int, int>();
            foreach (var device in (string[])["cpu", "hostcuda"])
            {
                foreach (var (rows, columns) in ((int, int)[])
                    [(1, 1), (3, 7), (5, 16), (7, 31), (13, 33), (65, 97), (129, 127), (33, 72), (5, 896), (6, 1536), (5, 3584), (5, 3585)])
                {
                    data.Add(device, rows, columns);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Forward_is_the_paper_formula(string device, int rows, int columns)
    {
        Forward<BFloat16>(device, rows, columns);
        if (device == "cpu")
        {
            Forward<float>(device, rows, columns);
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void ForwardResidual_normalises_the_stored_sum(string device, int rows, int columns)
    {
        ForwardResidual<BFloat16>(device, rows, columns);
        if (device == "cpu")
        {
            ForwardResidual<float>(device, rows, columns);
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Backward_is_the_derivative(string device, int rows, int columns)
    {
        Backward<BFloat16>(device, rows, columns);
        if (device == "cpu")
        {
            Backward<float>(device, rows, columns);
        }
    }

    [Fact]
    public void The_oracle_is_the_derivative_of_the_formula()
    {
        using var bench = new KernelBench();
        var shape = new Shape(3, 5);
        var (dy, x, w, dr) = (Input(bench, shape), Input(bench, shape), Input(bench, new Shape(5)), Input(bench, shape));
        var (dx, dw) = Gradients(dy, x, w, dr, 3, 5);
        Close(dx, KernelCheck.Differences(x, v => Loss(dy, v, w, dr)));
        Close(dw, KernelCheck.Differences(w, v => Loss(dy, x, v, dr)));

        static double[] Input(KernelBench bench, Shape shape) => KernelBench.Doubles(bench.Input<float>(shape));

        static double Loss(double[] dy, double[] x, double[] w, double[] dr)
        {
            var y = Normalized(x, w, 3, 5);
            return Enumerable.Range(0, 15).Sum(i => (dy[i] * y[i]) + (dr[i] * x[i]));
        }

        static void Close(double[] gradient, double[] differences)
        {
            for (var i = 0; i < gradient.Length; i++)
            {
                Assert.True(Math.Abs(gradient[i] - differences[i]) <= 1e-7 * Math.Max(1, Math.Abs(gradient[i])), $"{i}: {gradient[i]:R} {differences[i]:R}");
            }
        }
    }

    [Theory]
    [InlineData("cpu", 37)]
    [InlineData("cpu", 64)]
    [InlineData("hostcuda", 37)]
    [InlineData("hostcuda", 64)]
    public void Outputs_may_be_inputs(string device, int columns)
    {
        Alias<BFloat16>(device, columns);
        if (device == "cpu")
        {
            Alias<float>(device, columns);
        }
    }

    [Theory]
    [InlineData(200)]
    [InlineData(201)]
    public void Two_runs_on_a_device_give_the_same_bits(int columns)
    {
        using var bench = new KernelBench("hostcuda");
        const int Rows = 133;
        var shape = new Shape(Rows, columns);
        var (x, dy, w) = (bench.Put(bench.Input<BFloat16>(shape)), bench.Put(bench.Input<BFloat16>(shape)), bench.Put(bench.Input<BFloat16>(new Shape(columns))));
        KernelCheck.SameBitsTwice(() =>
        {
            var (y, sum, dx) = (bench.Output<BFloat16>(shape), bench.Output<BFloat16>(shape), bench.Output<BFloat16>(shape));
            var (rstd, dw) = (bench.Output<float>(new Shape(Rows)), bench.Output<float>(new Shape(columns)));
            var (y1, sum1, dx1, rstd1, dw1) = (bench.Put(y), bench.Put(sum), bench.Put(dx), bench.Put(rstd), bench.Put(dw));
            RmsNorm.ForwardResidual(bench.Stream, x, dy, w, sum1, y1, rstd1, Eps);
            RmsNorm.Backward(bench.Stream, dy, sum1, w, rstd1, x, dx1, dw1, false);
            bench.Get(y1, y);
            bench.Get(rstd1, rstd);
            bench.Get(dx1, dx);
            bench.Get(dw1, dw);
            return [KernelCheck.Bits(y), KernelCheck.Bits(rstd), KernelCheck.Bits(dx), KernelCheck.Bits(dw)];
        });
    }

    [Fact]
    public void A_device_refuses_other_elements_and_host_memory()
    {
        using var bench = new KernelBench("hostcuda");
        var (x, w, rstd) = (bench.Input<float>(new Shape(3, 8)), bench.Input<float>(new Shape(8)), bench.Output<float>(new Shape(3)));
        var e = Assert.Throws<NotSupportedException>(() => RmsNorm.Forward(bench.Stream, x, w, x, rstd, Eps));
        Assert.Contains("RmsNorm.Forward", e.Message);
        var (x16, w16) = (bench.Input<BFloat16>(new Shape(3, 8)), bench.Input<BFloat16>(new Shape(8)));
        Assert.Throws<ArgumentException>(() => RmsNorm.Forward(bench.Stream, x16, w16, x16, rstd, Eps));
    }

    [Fact]
    public void Same_bits_for_any_workers()
    {
        using var bench = new KernelBench();
        const int Rows = 333, Columns = 200;
        var shape = new Shape(Rows, Columns);
        var (x, dy, w) = (bench.Input<BFloat16>(shape), bench.Input<BFloat16>(shape), bench.Input<BFloat16>(new Shape(Columns)));
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            var (y, sum, dx) = (bench.Output<BFloat16>(shape), bench.Output<BFloat16>(shape), bench.Output<BFloat16>(shape));
            var (rstd, dw) = (bench.Output<float>(new Shape(Rows)), bench.Output<float>(new Shape(Columns)));
            RmsNorm.ForwardResidual(stream, x, dy, w, sum, y, rstd, Eps);
            RmsNorm.Backward(stream, dy, sum, w, rstd, x, dx, dw, false);
            return [KernelCheck.Bits(y), KernelCheck.Bits(rstd), KernelCheck.Bits(dx), KernelCheck.Bits(dw)];
        });
    }

    [Fact]
    public void Nothing_is_allocated()
    {
        using var bench = new KernelBench();
        var shape = new Shape(100, 40);
        var (x, y, w) = (bench.Input<BFloat16>(shape), bench.Output<BFloat16>(shape), bench.Input<BFloat16>(new Shape(40)));
        var (sum, rstd, dw) = (bench.Output<BFloat16>(shape), bench.Output<float>(new Shape(100)), bench.Output<float>(new Shape(40)));
        KernelCheck.AllocatesNothing(stream =>
        {
            RmsNorm.Forward(stream, x, w, y, rstd, Eps);
            RmsNorm.ForwardResidual(stream, x, y, w, sum, y, rstd, Eps);
            RmsNorm.Backward(stream, y, sum, w, rstd, default, y, dw, false);
        });
    }

    [Fact]
    public void Shapes_are_checked()
    {
        using var bench = new KernelBench();
        var (x, y, rstd) = (bench.Input<float>(new Shape(3, 8)), bench.Output<float>(new Shape(3, 8)), bench.Output<float>(new Shape(3)));
        Assert.Throws<ArgumentException>(() => RmsNorm.Forward(bench.Stream, x, bench.Input<float>(new Shape(7)), y, rstd, Eps));
        Assert.Throws<ArgumentException>(() => RmsNorm.Forward(bench.Stream, x, bench.Input<float>(new Shape(8)), rstd, rstd, Eps));
    }

    private static void Forward<T>(string device, int rows, int columns)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var (x, w) = (bench.Rows<T>(rows, columns), bench.Input<T>(new Shape(columns)));
        var (y, rstd) = (bench.Output<T>(new Shape(rows, columns)), bench.Output<float>(new Shape(rows)));
        var (y1, rstd1) = (bench.Put(y), bench.Put(rstd));
        RmsNorm.Forward(bench.Stream, bench.Put(x), bench.Put(w), y1, rstd1, Eps);
        bench.Get(y1, y);
        bench.Get(rstd1, rstd);
        CheckForward(x, w, y, rstd, rows, columns, bench.IsDevice);
    }

    private static void ForwardResidual<T>(string device, int rows, int columns)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var (x, residual, w) = (bench.Rows<T>(rows, columns), bench.Input<T>(new Shape(rows, columns)), bench.Input<T>(new Shape(columns)));
        var (sum, y, rstd) = (bench.Output<T>(x.Shape), bench.Output<T>(x.Shape), bench.Output<float>(new Shape(rows)));
        var (sum1, y1, rstd1) = (bench.Put(sum), bench.Put(y), bench.Put(rstd));
        RmsNorm.ForwardResidual(bench.Stream, bench.Put(x), bench.Put(residual), bench.Put(w), sum1, y1, rstd1, Eps);
        bench.Get(sum1, sum);
        bench.Get(y1, y);
        bench.Get(rstd1, rstd);
        var (a, b) = (KernelBench.Doubles(x), KernelBench.Doubles(residual));
        double[] expected = [.. a.Zip(b, (p, q) => p + q)];
        KernelBench.Within(sum, expected, KernelCheck.Rounding<T>() + KernelCheck.Eps, 0);
        CheckForward(sum, w, y, rstd, rows, columns, bench.IsDevice);
    }

    /// <summary>Roundings in rstd, with the products of y. CPU: two chains of fma over columns/32 vectors and five levels of halves, halved by
    /// the root; then root, quotient and the products. Device: a square, a thread's chain and ten additions, halved; then the same.</summary>
    private static double Roundings(int columns, bool device) =>
        device ? ((KernelCheck.Chain(columns, 128) + 11) / 2.0) + 8 : (columns / 64) + 8;

    private static void CheckForward<T>(Tensor<T> x, Tensor<T> w, Tensor<T> y, Tensor<float> rstd, int rows, int columns, bool device)
        where T : unmanaged
    {
        var (xs, ws) = (KernelBench.Doubles(x), KernelBench.Doubles(w));

        var relative = Roundings(columns, device) * KernelCheck.Eps;
        double[] expectedRstd = [.. Enumerable.Range(0, rows).Select(r => Rstd(xs, r, columns))];
        KernelBench.Within(rstd, expectedRstd, relative, 0);
        KernelBench.Within(y, Normalized(xs, ws, rows, columns), (1.01 * KernelCheck.Rounding<T>()) + relative, 0);
    }

    private static void Backward<T>(string device, int rows, int columns)
        where T : unmanaged
    {
        foreach (var withResidual in (bool[])[false, true])
        {
            using var bench = new KernelBench(device);
            var shape = new Shape(rows, columns);
            var (dy, x, w) = (bench.Input<T>(shape), bench.Rows<T>(rows, columns), bench.Input<T>(new Shape(columns)));
            var residual = withResidual ? bench.Input<T>(shape) : default;
            var (y, dx) = (bench.Output<T>(shape), bench.Output<T>(shape));
            var (rstd, dw) = (bench.Output<float>(new Shape(rows)), bench.Output<float>(new Shape(columns)));
            var (dy1, x1, w1, residual1) = (bench.Put(dy), bench.Put(x), bench.Put(w), bench.Put(residual));
            var (dx1, dw1, rstd1) = (bench.Put(dx), bench.Put(dw), bench.Put(rstd));
            RmsNorm.Forward(bench.Stream, x1, w1, bench.Put(y), rstd1, Eps);
            RmsNorm.Backward(bench.Stream, dy1, x1, w1, rstd1, residual1, dx1, dw1, accumulate: false);
            bench.Get(dx1, dx);
            bench.Get(dw1, dw);

            var (dys, xs, ws) = (KernelBench.Doubles(dy), KernelBench.Doubles(x), KernelBench.Doubles(w));
            var drs = withResidual ? KernelBench.Doubles(residual) : new double[rows * columns];
            var (expectedDx, expectedDw) = Gradients(dys, xs, ws, drs, rows, columns);

            // Device: rstd up to three times, the dot product (a chain, ten additions, two products), eight more.
            var roundings = KernelCheck.Eps
                * (bench.IsDevice ? (3 * Roundings(columns, device: true)) + KernelCheck.Chain(columns, 128) + 20 : (columns / 16) + 16);
            KernelCheck.EachWithin(dx, expectedDx, i =>
            {
                var r = i / columns;
                var (scale, meanAbs) = (Rstd(xs, r, columns), 0.0);
                for (var c = 0; c < columns; c++)
                {
                    meanAbs += Math.Abs(dys[(r * columns) + c] * ws[c] * xs[(r * columns) + c]) / columns;
                }

                var terms = (scale * (Math.Abs(dys[i] * ws[i % columns]) + (Math.Abs(xs[i]) * scale * scale * meanAbs))) + Math.Abs(drs[i]);
                return (terms * roundings) + (1.01 * KernelCheck.Rounding<T>() * Math.Abs(expectedDx[i]));
            });

            double DwBound(int c) => ((bench.IsDevice ? Roundings(columns, device: true) : columns / 64) + rows + 12) * KernelCheck.Eps
                * Enumerable.Range(0, rows).Sum(r => Math.Abs(dys[(r * columns) + c] * xs[(r * columns) + c]) * Rstd(xs, r, columns));
            KernelCheck.EachWithin(dw, expectedDw, DwBound);
            RmsNorm.Backward(bench.Stream, dy1, x1, w1, rstd1, residual1, dx1, dw1, accumulate: true);
            bench.Get(dw1, dw);
            KernelCheck.EachWithin(dw, [.. expectedDw.Select(v => 2 * v)], c => 3 * DwBound(c));
        }
    }

    private static void Alias<T>(string device, int columns)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var shape = new Shape(9, columns);
        var (x, r, dy) = (bench.Rows<T>(9, columns), bench.Input<T>(shape), bench.Input<T>(shape));
        var w = bench.Put(bench.Input<T>(new Shape(columns)));
        var (y, sum, dx) = (Fresh(), Fresh(), Fresh());
        var (rstd, dw) = (bench.Put(bench.Output<float>(new Shape(9))), bench.Put(bench.Output<float>(new Shape(columns))));

        RmsNorm.Forward(bench.Stream, Clone(x), w, y, rstd, Eps);
        var inPlace = Clone(x);
        RmsNorm.Forward(bench.Stream, inPlace, w, inPlace, rstd, Eps);
        Assert.Equal(Bits(y), Bits(inPlace));

        RmsNorm.ForwardResidual(bench.Stream, Clone(x), Clone(r), w, sum, y, rstd, Eps);
        var (x2, r2) = (Clone(x), Clone(r));
        RmsNorm.ForwardResidual(bench.Stream, x2, r2, w, r2, x2, rstd, Eps);
        Assert.Equal(Bits(sum), Bits(r2));
        Assert.Equal(Bits(y), Bits(x2));
        x2 = Clone(x);
        RmsNorm.ForwardResidual(bench.Stream, x2, Clone(r), w, x2, y, rstd, Eps);
        Assert.Equal(Bits(sum), Bits(x2));

        RmsNorm.Backward(bench.Stream, Clone(dy), sum, w, rstd, Clone(r), dx, dw, false);
        var expected = (Bits(dx), Bits(dw));
        var stored = bench.Output<T>(shape);
        TensorCopy.Download(bench.Stream, sum, stored.Span);
        foreach (var which in (int[])[0, 1, 2])
        {
            var (dy2, x3, r3) = (Clone(dy), Clone(stored), Clone(r));
            var target = which == 0 ? dy2 : which == 1 ? x3 : r3;
            RmsNorm.Backward(bench.Stream, dy2, x3, w, rstd, r3, target, dw, false);
            Assert.Equal(expected.Item1, Bits(target));
            Assert.Equal(expected.Item2, Bits(dw));
        }

        Tensor<T> Fresh() => bench.Put(bench.Output<T>(shape));

        Tensor<T> Clone(Tensor<T> tensor)
        {
            var copy = bench.Output<T>(tensor.Shape);
            tensor.Span.CopyTo(copy.Span);
            return bench.Put(copy);
        }

        byte[] Bits<TElement>(Tensor<TElement> tensor)
            where TElement : unmanaged => bench.Bits(tensor);
    }

    private static double Rstd(double[] x, int row, int columns)
    {
        var sum = 0.0;
        for (var c = 0; c < columns; c++)
        {
            sum += x[(row * columns) + c] * x[(row * columns) + c];
        }

        return 1 / Math.Sqrt((sum / columns) + Eps);
    }

    private static double[] Normalized(double[] x, double[] w, int rows, int columns)
    {
        var y = new double[rows * columns];
        for (var r = 0; r < rows; r++)
        {
            var scale = Rstd(x, r, columns);
            for (var c = 0; c < columns; c++)
            {
                y[(r * columns) + c] = x[(r * columns) + c] * scale * w[c];
            }
        }

        return y;
    }

    /// <summary>∂y_i/∂x_j = w_i·rstd·(δ_ij − x_i·x_j·rstd²/D), summed over i as it stands.</summary>
    private static (double[] Dx, double[] Dw) Gradients(double[] dy, double[] x, double[] w, double[] dresidual, int rows, int columns)
    {
        var (dx, dw) = (new double[rows * columns], new double[columns]);
        for (var r = 0; r < rows; r++)
        {
            var (scale, at, dot) = (Rstd(x, r, columns), r * columns, 0.0);
            for (var i = 0; i < columns; i++)
            {
                dot += dy[at + i] * w[i] * x[at + i];
                dw[i] += dy[at + i] * x[at + i] * scale;
            }

            for (var j = 0; j < columns; j++)
            {
                dx[at + j] = (scale * ((dy[at + j] * w[j]) - (x[at + j] * scale * scale * dot / columns))) + dresidual[at + j];
            }
        }

        return (dx, dw);
    }
}
