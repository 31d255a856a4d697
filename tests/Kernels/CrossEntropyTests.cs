using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

public sealed class CrossEntropyTests
{
    private const float Scale = 0.125f;

    [Theory]
    [InlineData(1, 1)]
    [InlineData(6, 2)]
    [InlineData(7, 17)]
    [InlineData(5, 97)]
    [InlineData(5, 2047)]
    [InlineData(5, 2048)]
    [InlineData(6, 2049)]
    [InlineData(5, 6161)]
    [InlineData(5, 151936)]
    public void Rows_are_the_formula(int rows, int vocabulary)
    {
        Formula<float>(rows, vocabulary);
        Formula<BFloat16>(rows, vocabulary);
    }

    [Fact]
    public void The_oracle_is_the_derivative_of_the_formula()
    {
        double[] logits = [0.3, -1.2, 2.5, 0, 0.7];
        var differences = KernelCheck.Differences(logits, x => Loss(x, 0, 5, 3));
        for (var c = 0; c < 5; c++)
        {
            Assert.Equal(differences[c], Probability(logits, 0, 5, c) - (c == 3 ? 1 : 0), 1e-9);
        }
    }

    [Fact]
    public void An_ignored_row_has_no_loss_and_no_gradient()
    {
        using var bench = new KernelBench();
        var (logits, losses) = (bench.Output<BFloat16>(new Shape(2, 33)), bench.Output<float>(new Shape(2)));
        CrossEntropy.RowLosses(bench.Stream, logits, bench.Ints(-100, -100), losses);
        Assert.Equal([0f, 0f], losses.Span.ToArray());
        CrossEntropy.Rows(bench.Stream, logits, bench.Ints(-100, -100), losses, Scale);
        Assert.All(KernelCheck.Bits(logits), b => Assert.Equal(0, b));
    }

    [Fact]
    public void Masked_logits_count_nothing_even_when_they_fill_the_first_blocks()
    {
        using var bench = new KernelBench();
        var logits = bench.Output<float>(new Shape(1, 5000));
        logits.Span.Fill(float.NegativeInfinity);
        (logits.Span[4500], logits.Span[4999]) = (-300f, -300f);
        var losses = bench.Output<float>(new Shape(1));
        CrossEntropy.Rows(bench.Stream, logits, bench.Ints(4999), losses, 1f);
        Assert.Equal(Math.Log(2), losses.Span[0], 1e-6);
        for (var c = 0; c < 5000; c++)
        {
            Assert.Equal(c == 4500 ? 0.5 : c == 4999 ? -0.5 : 0, logits.Span[c], 1e-6);
        }
    }

    [Theory]
    [InlineData(float.NaN, 0)]
    [InlineData(float.NaN, 16)]
    [InlineData(float.NaN, 4999)]
    [InlineData(float.PositiveInfinity, 7)]
    public void Logits_that_are_not_finite_are_visible(float bad, int at)
    {
        using var bench = new KernelBench();
        foreach (var target in (int[])[0, 4999, 2500])
        {
            var (logits, losses) = (bench.Input<float>(new Shape(1, 5000)), bench.Allocate<float>(new Shape(1)));
            logits.Span[at] = bad;
            CrossEntropy.Rows(bench.Stream, logits, bench.Ints(target), losses, Scale);
            Assert.False(float.IsFinite(losses.Span[0]));
        }
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(33)]
    [InlineData(-99)]
    public void A_target_out_of_range_is_named_before_anything_is_written(int bad)
    {
        using var bench = new KernelBench();
        var (logits, losses) = (bench.Input<float>(new Shape(2, 33)), bench.Output<float>(new Shape(2)));
        var before = KernelCheck.Bits(logits);
        var e = Assert.Throws<ArgumentOutOfRangeException>(() => CrossEntropy.Rows(bench.Stream, logits, bench.Ints(0, bad), losses, 1f));
        Assert.Contains($"row 1 is {bad}", e.Message);
        Assert.Equal(before, KernelCheck.Bits(logits));
        Assert.True(float.IsNaN(losses.Span[0]));
    }

    [Fact]
    public void Same_bits_for_any_workers_and_nothing_allocated()
    {
        using var bench = new KernelBench();
        var (source, targets) = (bench.Input<BFloat16>(new Shape(11, 5000), 8), bench.Ints(0, 1, 2, 3, 4, 4999, 6, 7, -100, 9, 10));
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            var (logits, losses) = (bench.Output<BFloat16>(source.Shape), bench.Output<float>(new Shape(11)));
            source.Span.CopyTo(logits.Span);
            CrossEntropy.Rows(stream, logits, targets, losses, Scale);
            return [KernelCheck.Bits(logits), KernelCheck.Bits(losses)];
        });
        var output = bench.Output<float>(new Shape(11));
        KernelCheck.AllocatesNothing(stream =>
        {
            CrossEntropy.RowLosses(stream, source, targets, output);
            CrossEntropy.Rows(stream, source, targets, output, Scale);
        });
    }

    private static void Formula<T>(int rows, int vocabulary)
        where T : unmanaged
    {
        using var bench = new KernelBench();
        var logits = bench.Rows<T>(rows, vocabulary);
        for (var c = 0; c < vocabulary; c++)
        {
            ref var element = ref logits.Row(0)[c];
            Lanes.Set(ref element, 0, 16 * Lanes.Get(ref element, 0));
        }

        int[] targets = [.. Enumerable.Range(0, rows).Select(r => (int)((r * 7919L) % vocabulary))];
        targets[^1] = vocabulary - 1;
        var x = KernelBench.Doubles(logits);
        var (losses, lossesAlone) = (bench.Output<float>(new Shape(rows)), bench.Output<float>(new Shape(rows)));
        CrossEntropy.RowLosses(bench.Stream, logits, bench.Ints(targets), lossesAlone);
        Assert.Equal(x, KernelBench.Doubles(logits));
        CrossEntropy.Rows(bench.Stream, logits, bench.Ints(targets), losses, Scale);
        Assert.Equal(KernelCheck.Bits(lossesAlone), KernelCheck.Bits(losses));

        // 64 additions per lane and block, one per block, the halves and a few products.
        var relative = (64 + (vocabulary / 2048) + 16) * KernelCheck.Eps;
        double[] expectedLosses = [.. Enumerable.Range(0, rows).Select(r => Loss(x, r, vocabulary, targets[r]))];
        KernelCheck.EachWithin(losses, expectedLosses, r => relative + (4 * KernelCheck.Eps * Math.Abs(expectedLosses[r])));

        var expected = new double[x.Length];
        var (maximum, logSum) = (new double[rows], new double[rows]);
        for (var r = 0; r < rows; r++)
        {
            (maximum[r], logSum[r]) = MaximumAndLogSum(x, r, vocabulary);
            for (var c = 0; c < vocabulary; c++)
            {
                var p = Math.Exp(x[(r * vocabulary) + c] - maximum[r] - logSum[r]);
                expected[(r * vocabulary) + c] = (p - (c == targets[r] ? 1 : 0)) * Scale;
            }
        }

        KernelCheck.EachWithin(logits, expected, i =>
        {
            var (r, c) = (i / vocabulary, i % vocabulary);
            var target = c == targets[r];
            var p = expected[i] + (target ? Scale : 0);
            return (p * (relative + (KernelCheck.Eps * Math.Min(200, Math.Abs(x[i] - maximum[r])))))
                + (1.01 * KernelCheck.Rounding<T>() * Math.Abs(expected[i])) + (target ? Scale * KernelCheck.Eps : 0) + 1e-40;
        });
    }

    private static double Probability(double[] x, int row, int vocabulary, int column) => Math.Exp(-Loss(x, row, vocabulary, column));

    private static double Loss(double[] x, int row, int vocabulary, int target)
    {
        var (maximum, logSum) = MaximumAndLogSum(x, row, vocabulary);
        return maximum - x[(row * vocabulary) + target] + logSum;
    }

    private static (double Maximum, double LogSum) MaximumAndLogSum(double[] x, int row, int vocabulary)
    {
        var maximum = double.NegativeInfinity;
        for (var c = 0; c < vocabulary; c++)
        {
            maximum = Math.Max(maximum, x[(row * vocabulary) + c]);
        }

        var sum = 0.0;
        for (var c = 0; c < vocabulary; c++)
        {
            sum += Math.Exp(x[(row * vocabulary) + c] - maximum);
        }

        return (maximum, Math.Log(sum));
    }
}
