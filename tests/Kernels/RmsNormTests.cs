using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

public sealed class RmsNormTests
{
    private const float Eps = 1e-6f;

    public static TheoryData<int, int> Shapes => new()
    {
        { 1, 1 }, { 3, 7 }, { 5, 16 }, { 7, 31 }, { 13, 33 }, { 65, 97 }, { 129, 127 }, { 5, 896 }, { 6, 1536 }, { 5, 3585 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Forward_is_the_paper_formula(int rows, int columns)
    {
        Forward<float>(rows, columns);
        Forward<BFloat16>(rows, columns);
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void ForwardResidual_normalises_the_stored_sum(int rows, int columns)
    {
        ForwardResidual<float>(rows, columns);
        ForwardResidual<BFloat16>(rows, columns);
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Backward_is_the_derivative(int rows, int columns)
    {
        Backward<float>(rows, columns);
        Backward<BFloat16>(rows, columns);
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

    [Fact]
    public void Outputs_may_be_inputs()
    {
        Alias<float>();
        Alias<BFloat16>();
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

    private static void Forward<T>(int rows, int columns)
        where T : unmanaged
    {
        using var bench = new KernelBench();
        var (x, w) = (bench.Rows<T>(rows, columns), bench.Input<T>(new Shape(columns)));
        var (y, rstd) = (bench.Output<T>(new Shape(rows, columns)), bench.Output<float>(new Shape(rows)));
        RmsNorm.Forward(bench.Stream, x, w, y, rstd, Eps);
        CheckForward(x, w, y, rstd, rows, columns);
    }

    private static void ForwardResidual<T>(int rows, int columns)
        where T : unmanaged
    {
        using var bench = new KernelBench();
        var (x, residual, w) = (bench.Rows<T>(rows, columns), bench.Input<T>(new Shape(rows, columns)), bench.Input<T>(new Shape(columns)));
        var (sum, y, rstd) = (bench.Output<T>(x.Shape), bench.Output<T>(x.Shape), bench.Output<float>(new Shape(rows)));
        RmsNorm.ForwardResidual(bench.Stream, x, residual, w, sum, y, rstd, Eps);
        var (a, b) = (KernelBench.Doubles(x), KernelBench.Doubles(residual));
        double[] expected = [.. a.Zip(b, (p, q) => p + q)];
        KernelBench.Within(sum, expected, KernelCheck.Rounding<T>() + KernelCheck.Eps, 0);
        CheckForward(sum, w, y, rstd, rows, columns);
    }

    private static void CheckForward<T>(Tensor<T> x, Tensor<T> w, Tensor<T> y, Tensor<float> rstd, int rows, int columns)
        where T : unmanaged
    {
        var (xs, ws) = (KernelBench.Doubles(x), KernelBench.Doubles(w));

        // Two chains of fma over columns/32 vectors and five levels of halves, halved by the root; then root, quotient and the products.
        var relative = ((columns / 64) + 8) * KernelCheck.Eps;
        double[] expectedRstd = [.. Enumerable.Range(0, rows).Select(r => Rstd(xs, r, columns))];
        KernelBench.Within(rstd, expectedRstd, relative, 0);
        KernelBench.Within(y, Normalized(xs, ws, rows, columns), (1.01 * KernelCheck.Rounding<T>()) + relative, 0);
    }

    private static void Backward<T>(int rows, int columns)
        where T : unmanaged
    {
        foreach (var withResidual in (bool[])[false, true])
        {
            using var bench = new KernelBench();
            var shape = new Shape(rows, columns);
            var (dy, x, w) = (bench.Input<T>(shape), bench.Rows<T>(rows, columns), bench.Input<T>(new Shape(columns)));
            var residual = withResidual ? bench.Input<T>(shape) : default;
            var (y, dx) = (bench.Output<T>(shape), bench.Output<T>(shape));
            var (rstd, dw) = (bench.Output<float>(new Shape(rows)), bench.Output<float>(new Shape(columns)));
            RmsNorm.Forward(bench.Stream, x, w, y, rstd, Eps);
            RmsNorm.Backward(bench.Stream, dy, x, w, rstd, residual, dx, dw, accumulate: false);

            var (dys, xs, ws) = (KernelBench.Doubles(dy), KernelBench.Doubles(x), KernelBench.Doubles(w));
            var drs = withResidual ? KernelBench.Doubles(residual) : new double[rows * columns];
            var (expectedDx, expectedDw) = Gradients(dys, xs, ws, drs, rows, columns);
            var roundings = ((columns / 16) + 16) * KernelCheck.Eps;
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

            double DwBound(int c) => ((columns / 64) + rows + 12) * KernelCheck.Eps
                * Enumerable.Range(0, rows).Sum(r => Math.Abs(dys[(r * columns) + c] * xs[(r * columns) + c]) * Rstd(xs, r, columns));
            KernelCheck.EachWithin(dw, expectedDw, DwBound);
            RmsNorm.Backward(bench.Stream, dy, x, w, rstd, residual, dx, dw, accumulate: true);
            KernelCheck.EachWithin(dw, [.. expectedDw.Select(v => 2 * v)], c => 3 * DwBound(c));
        }
    }

    private static void Alias<T>()
        where T : unmanaged
    {
        using var bench = new KernelBench();
        var shape = new Shape(9, 37);
        var (x, r, w, dy) = (bench.Rows<T>(9, 37), bench.Input<T>(shape), bench.Input<T>(new Shape(37)), bench.Input<T>(shape));
        var (y, sum, rstd) = (bench.Output<T>(shape), bench.Output<T>(shape), bench.Output<float>(new Shape(9)));
        var (dx, dw) = (bench.Output<T>(shape), bench.Output<float>(new Shape(37)));

        RmsNorm.Forward(bench.Stream, x, w, y, rstd, Eps);
        var inPlace = Clone(bench, x);
        RmsNorm.Forward(bench.Stream, inPlace, w, inPlace, rstd, Eps);
        Assert.Equal(KernelCheck.Bits(y), KernelCheck.Bits(inPlace));

        RmsNorm.ForwardResidual(bench.Stream, x, r, w, sum, y, rstd, Eps);
        var (x2, r2) = (Clone(bench, x), Clone(bench, r));
        RmsNorm.ForwardResidual(bench.Stream, x2, r2, w, r2, x2, rstd, Eps);
        Assert.Equal(KernelCheck.Bits(sum), KernelCheck.Bits(r2));
        Assert.Equal(KernelCheck.Bits(y), KernelCheck.Bits(x2));

        RmsNorm.Backward(bench.Stream, dy, sum, w, rstd, r, dx, dw, false);
        var expected = (KernelCheck.Bits(dx), KernelCheck.Bits(dw));
        foreach (var which in (int[])[0, 1, 2])
        {
            var (dy2, x3, r3) = (Clone(bench, dy), Clone(bench, sum), Clone(bench, r));
            var target = which == 0 ? dy2 : which == 1 ? x3 : r3;
            RmsNorm.Backward(bench.Stream, dy2, x3, w, rstd, r3, target, dw, false);
            Assert.Equal(expected.Item1, KernelCheck.Bits(target));
            Assert.Equal(expected.Item2, KernelCheck.Bits(dw));
        }
    }

    private static Tensor<T> Clone<T>(KernelBench bench, Tensor<T> tensor)
        where T : unmanaged
    {
        var copy = bench.Output<T>(tensor.Shape);
        tensor.Span.CopyTo(copy.Span);
        return copy;
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
