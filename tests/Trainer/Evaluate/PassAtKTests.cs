using System.Numerics;
using Xunit;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

public sealed class PassAtKTests
{
    [Fact]
    public void It_is_the_fraction_of_k_subsets_with_a_pass()
    {
        for (var n = 1; n <= 12; n++)
        {
            for (var c = 0; c <= n; c++)
            {
                for (var k = 1; k <= n; k++)
                {
                    // Oracle: every subset of size k of n samples, the first c of which pass.
                    int subsets = 0, solved = 0;
                    for (var mask = 0; mask < 1 << n; mask++)
                    {
                        if (BitOperations.PopCount((uint)mask) == k)
                        {
                            subsets++;
                            solved += (mask & ((1 << c) - 1)) != 0 ? 1 : 0;
                        }
                    }

                    var error = Math.Abs(PassAtK.Of(n, c, k) - (double)solved / subsets);
                    Assert.True(error <= 1e-14, $"n={n} c={c} k={k}: {error}");
                }
            }
        }
    }

    [Fact]
    public void Many_samples_lose_no_precision()
    {
        // 1 - C(100,50)/C(200,50), with whole numbers.
        var none = BigInteger.One;
        var all = BigInteger.One;
        for (var i = 0; i < 50; i++)
        {
            none *= 100 - i;
            all *= 200 - i;
        }

        var expected = 1 - (double)none / (double)all;
        Assert.True(Math.Abs(PassAtK.Of(200, 100, 50) - expected) <= 1e-14);
        Assert.Equal(1, PassAtK.Of(200, 200, 200));
        Assert.Equal(0, PassAtK.Of(200, 0, 200));
        Assert.Throws<ArgumentOutOfRangeException>(() => PassAtK.Of(5, 6, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => PassAtK.Of(5, 1, 6));
    }

    [Theory]
    [InlineData(0, 10)]
    [InlineData(10, 10)]
    [InlineData(1, 1)]
    [InlineData(59, 164)]
    [InlineData(100, 164)]
    public void Wilson_ends_are_where_the_score_test_turns(int solved, int total)
    {
        // Oracle: p0 is inside iff |p - p0| <= z sqrt(p0 (1 - p0) / n); the ends by bisection.
        double p = (double)solved / total, low = 0, high = p;
        bool Inside(double p0) => Math.Abs(p - p0) <= 1.959963984540054 * Math.Sqrt(p0 * (1 - p0) / total);
        for (var i = 0; i < 100; i++)
        {
            var middle = (low + high) / 2;
            (low, high) = Inside(middle) ? (low, middle) : (middle, high);
        }

        double upperLow = p, upperHigh = 1;
        for (var i = 0; i < 100; i++)
        {
            var middle = (upperLow + upperHigh) / 2;
            (upperLow, upperHigh) = Inside(middle) ? (middle, upperHigh) : (upperLow, middle);
        }

        var interval = PassAtK.Wilson(solved, total);
        Assert.True(Math.Abs(interval.Low - (solved == 0 ? 0 : low)) <= 1e-9, $"{interval} {low}");
        Assert.True(Math.Abs(interval.High - (solved == total ? 1 : upperHigh)) <= 1e-9, $"{interval} {upperHigh}");
    }

    [Fact]
    public void Bootstrap_agrees_with_the_normal_interval_and_depends_on_the_seed_alone()
    {
        double[] values = [.. Enumerable.Range(0, 400).Select(i => i % 4 / 3.0)];
        var interval = PassAtK.Bootstrap(values, seed: 7);
        Assert.Equal(interval, PassAtK.Bootstrap(values, seed: 7));
        Assert.NotEqual(interval, PassAtK.Bootstrap(values, seed: 8));

        // Values 0, 1/3, 2/3, 1 in equal parts: variance 5/36, so the half width is 1.96 sqrt(5/36/400) = 0.0365.
        var half = 1.959963984540054 * Math.Sqrt(5.0 / 36 / 400);
        Assert.True(Math.Abs(interval.Low - (0.5 - half)) <= 0.1 * half, $"{interval}");
        Assert.True(Math.Abs(interval.High - (0.5 + half)) <= 0.1 * half, $"{interval}");
        Assert.Equal(new Interval(1, 1), PassAtK.Bootstrap([1, 1, 1]));
    }
}
