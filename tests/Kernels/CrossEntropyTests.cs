using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class CrossEntropyTests
{
    private const float Scale = 0.125f;

    [Theory]
    [InlineData("cpu", 1, 1)]
    [InlineData("cpu", 6, 2)]
    [InlineData("cpu", 7, 17)]
    [InlineData("cpu", 5, 97)]
    [InlineData("cpu", 5, 2047)]
    [InlineData("cpu", 5, 2048)]
    [InlineData("cpu", 6, 2049)]
    [InlineData("cpu", 5, 6161)]
    [InlineData("cpu", 5, 151936)]
    [InlineData("hostcuda", 1, 1)]
    [InlineData("hostcuda", 6, 2)]
    [InlineData("hostcuda", 7, 17)]
    [InlineData("hostcuda", 5, 2047)]
    [InlineData("hostcuda", 5, 2048)]
    [InlineData("hostcuda", 5, 8200)]                   // one vector more than there are threads
    [InlineData("hostcuda", 5, 6161)]
    [InlineData("hostcuda", 5, 151936)]
    public void Rows_are_the_formula(string device, int rows, int vocabulary)
    {
        Formula<BFloat16>(device, rows, vocabulary);
        if (device == "cpu")
        {
            Formula<float>(device, rows, vocabulary);
        }
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

    [Theory]
    [InlineData("cpu", 33)]
    [InlineData("hostcuda", 33)]
    [InlineData("hostcuda", 40)]
    public void An_ignored_row_has_no_loss_and_no_gradient(string device, int vocabulary)
    {
        using var bench = new KernelBench(device);
        var (logits, losses) = (bench.Put(bench.Output<BFloat16>(new Shape(2, vocabulary))), bench.Output<float>(new Shape(2)));
        var (targets, losses1) = (bench.Put(bench.Ints(-100, -100)), bench.Put(losses));
        CrossEntropy.RowLosses(bench.Stream, logits, targets, losses1);
        bench.Get(losses1, losses);
        Assert.Equal([0f, 0f], losses.Span.ToArray());
        losses.Span.Fill(float.NaN);
        losses1 = bench.Put(losses);
        CrossEntropy.Rows(bench.Stream, logits, targets, losses1, Scale);
        bench.Get(losses1, losses);
        Assert.Equal([0f, 0f], losses.Span.ToArray());
        Assert.All(bench.Bits(logits), b => Assert.Equal(0, b));
    }

    [Theory]
    [InlineData("cpu", 5000)]
    [InlineData("hostcuda", 4999)]
    [InlineData("hostcuda", 5000)]
    public void Masked_logits_count_nothing_even_when_they_fill_the_first_blocks(string device, int vocabulary)
    {
        using var bench = new KernelBench(device);
        var (logits, losses) = (bench.Output<BFloat16>(new Shape(1, vocabulary)), bench.Output<float>(new Shape(1)));
        logits.Span.Fill((BFloat16)float.NegativeInfinity);
        (logits.Span[4500], logits.Span[4998]) = ((BFloat16)(-300f), (BFloat16)(-300f));
        var (logits1, losses1) = (bench.Put(logits), bench.Put(losses));
        CrossEntropy.Rows(bench.Stream, logits1, bench.Put(bench.Ints(4998)), losses1, 1f);
        bench.Get(logits1, logits);
        bench.Get(losses1, losses);
        Assert.Equal(Math.Log(2), losses.Span[0], 1e-6);
        for (var c = 0; c < vocabulary; c++)
        {
            // bfloat16 holds ½, and the sums are off by far less than half a step
            Assert.Equal(c == 4500 ? 0.5f : c == 4998 ? -0.5f : 0f, (float)logits.Span[c]);
        }
    }

    [Theory]
    [InlineData("cpu", float.NaN, 0)]
    [InlineData("cpu", float.NaN, 16)]
    [InlineData("cpu", float.NaN, 4999)]
    [InlineData("cpu", float.PositiveInfinity, 7)]
    [InlineData("hostcuda", float.NaN, 0)]
    [InlineData("hostcuda", float.NaN, 16)]
    [InlineData("hostcuda", float.NaN, 4999)]
    [InlineData("hostcuda", float.PositiveInfinity, 7)]
    public void Logits_that_are_not_finite_are_visible(string device, float bad, int at)
    {
        using var bench = new KernelBench(device);
        foreach (var vocabulary in (int[])[5000, 5001])
        {
            foreach (var target in (int[])[0, 4999, 2500])
            {
                var (logits, losses) = (bench.Input<BFloat16>(new Shape(1, vocabulary)), bench.Allocate<float>(new Shape(1)));
                logits.Span[at] = (BFloat16)bad;
                var losses1 = bench.Put(losses);
                CrossEntropy.Rows(bench.Stream, bench.Put(logits), bench.Put(bench.Ints(target)), losses1, Scale);
                bench.Get(losses1, losses);
                Assert.False(float.IsFinite(losses.Span[0]));
            }
        }
    }

    [Theory]
    [InlineData(3000)]
    [InlineData(3001)]
    public void Two_runs_on_a_device_give_the_same_bits(int vocabulary)
    {
        using var bench = new KernelBench("hostcuda");
        var (source, targets) = (bench.Input<BFloat16>(new Shape(5, vocabulary), 8), bench.Put(bench.Ints(0, 1, 2999, -100, 4)));
        KernelCheck.SameBitsTwice(() =>
        {
            var (logits, losses) = (bench.Put(source), bench.Put(bench.Output<float>(new Shape(5))));
            CrossEntropy.Rows(bench.Stream, logits, targets, losses, Scale);
            return [bench.Bits(logits), bench.Bits(losses)];
        });
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

    private static void Formula<T>(string device, int rows, int vocabulary)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
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
        var (logits1, targets1) = (bench.Put(logits), bench.Put(bench.Ints(targets)));
        var (losses1, lossesAlone1) = (bench.Put(losses), bench.Put(lossesAlone));
        CrossEntropy.RowLosses(bench.Stream, logits1, targets1, lossesAlone1);
        bench.Get(logits1, logits);
        bench.Get(lossesAlone1, lossesAlone);
        Assert.Equal(x, KernelBench.Doubles(logits));
        CrossEntropy.Rows(bench.Stream, logits1, targets1, losses1, Scale);
        bench.Get(logits1, logits);
        bench.Get(losses1, losses);
        Assert.Equal(KernelCheck.Bits(lossesAlone), KernelCheck.Bits(losses));

        // CPU: 64 additions per lane and block, one per block, the halves and a few products. Device: a thread's chain, a factor of 5 roundings at
        // each rise of its maximum (at most one a step) and once for the block, ten additions, exp to 2^-22, a few products.
        var steps = KernelCheck.Chain(vocabulary, 1024) / (vocabulary % 8 == 0 ? 8 : 1);
        var relative = KernelCheck.Eps
            * (bench.IsDevice ? KernelCheck.Chain(vocabulary, 1024) + (5 * (steps + 1)) + 30 : 64 + (vocabulary / 2048) + 16);

        // x − maximum is rounded, on a device its product with log2 e too; there exp gives 0 below the smallest normal number.
        var (arguments, smallest) = bench.IsDevice ? (2, 1e-38) : (1, 1e-40);
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
            return (p * (relative + (arguments * KernelCheck.Eps * Math.Min(200, Math.Abs(x[i] - maximum[r])))))
                + (1.01 * KernelCheck.Rounding<T>() * Math.Abs(expected[i])) + (target ? Scale * KernelCheck.Eps : 0) + smallest;
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
