using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// pass@k: the chance that at least one of k samples solves the task, estimated without bias from n samples of which c pass:
/// 1 - C(n-c, k) / C(n, k) = 1 - prod over i = n-c+1..n of (1 - k/i), and 1 when n - c is less than k. The benchmark's figure is the mean over
/// tasks. Chen et al. 2021, arXiv:2107.03374, section 2.1. With one greedy sample per task it is the fraction solved.
/// </summary>
public static class PassAtK
{
    private const double Z = 1.959963984540054;         // two-sided 95 % of the normal distribution
    private const double Tail = 0.025;

    /// <summary>Estimate for one task with <paramref name="samples"/> samples of which <paramref name="passed"/> pass.</summary>
    public static double Of(int samples, int passed, int k)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(passed);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(passed, samples);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(k, samples);
        if (samples - passed < k)
        {
            return 1;
        }

        var none = 1.0;
        for (var i = samples - passed + 1; i <= samples; i++)
        {
            none *= 1 - (double)k / i;
        }

        return 1 - none;
    }

    /// <summary>Mean over tasks; NaN without tasks.</summary>
    public static double Mean(ReadOnlySpan<double> perTask)
    {
        var sum = 0.0;
        foreach (var value in perTask)
        {
            sum += value;
        }

        return sum / perTask.Length;
    }

    /// <summary>
    /// Wilson's score interval for a fraction (E. B. Wilson 1927): (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). For one sample per task.
    /// </summary>
    public static Interval Wilson(int solved, int total)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(solved);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(solved, total);
        if (total == 0)
        {
            return new Interval(0, 1);
        }

        double n = total;
        var p = solved / n;
        var center = p + Z * Z / (2 * n);
        var half = Z * Math.Sqrt(p * (1 - p) / n + Z * Z / (4 * n * n));
        var scale = 1 + Z * Z / n;
        return new Interval(solved == 0 ? 0 : (center - half) / scale, solved == total ? 1 : (center + half) / scale);
    }

    /// <summary>
    /// Percentile bootstrap over tasks: each resample draws as many tasks as there are, with replacement. Draw j of resample r depends on
    /// (seed, r, j) only, so the interval is the same on every machine.
    /// </summary>
    public static Interval Bootstrap(ReadOnlySpan<double> perTask, ulong seed = 0, int resamples = 10_000)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(resamples, 1);
        if (perTask.IsEmpty)
        {
            return new Interval(0, 1);
        }

        var means = new double[resamples];
        for (var r = 0; r < resamples; r++)
        {
            var sum = 0.0;
            for (var j = 0; j < perTask.Length; j++)
            {
                var random = SplitMix64.Mix(SplitMix64.Mix(seed + SplitMix64.Step * ((ulong)r + 1)) + SplitMix64.Step * ((ulong)j + 1));
                sum += perTask[(int)Math.BigMul(random, (ulong)perTask.Length, out _)];
            }

            means[r] = sum / perTask.Length;
        }

        Array.Sort(means);
        return new Interval(means[(int)(Tail * (resamples - 1))], means[(int)Math.Ceiling((1 - Tail) * (resamples - 1))]);
    }
}
