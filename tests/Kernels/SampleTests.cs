using System.Numerics;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class SampleTests
{
    private static readonly float[] s_temperatures = [1f, 0.7f, 0f, 0.05f, 3f, 1e-6f, 1e6f];
    private static readonly float[] s_topP = [1f, 0.9f, 0.5f, 0.1f, 0f, 0.999f, 1e-30f];

    [Theory]
    [InlineData("cpu", 1)]
    [InlineData("cpu", 2)]
    [InlineData("cpu", 15)]
    [InlineData("cpu", 16)]
    [InlineData("cpu", 17)]
    [InlineData("cpu", 97)]
    [InlineData("cpu", 256)]
    [InlineData("cpu", 1001)]
    [InlineData("hostcuda", 1)]
    [InlineData("hostcuda", 8)]
    [InlineData("hostcuda", 33)]
    [InlineData("hostcuda", 97)]
    [InlineData("hostcuda", 520)]
    [InlineData("hostcuda", 1001)]
    public void The_token_of_the_sorted_oracle(string device, int columns)
    {
        Check<BFloat16>(device, columns, 98);
        if (device == "cpu")
        {
            Check<float>(device, columns, 98);
        }
    }

    [Theory]
    [InlineData("cpu", 7)]
    [InlineData("hostcuda", 2)]
    public void At_the_vocabulary_of_the_models(string device, int rows) => Check<BFloat16>(device, 152_064, rows);

    [Theory]
    [MemberData(nameof(KernelDevices.All), MemberType = typeof(KernelDevices))]
    public void What_is_not_finite(string device)
    {
        float[][] rows =
        [
            [float.NaN, float.NaN, float.NaN, float.NaN, float.NaN],
            [float.NegativeInfinity, float.NegativeInfinity, float.NegativeInfinity, float.NegativeInfinity, float.NegativeInfinity],
            [float.NaN, float.NegativeInfinity, float.NaN, float.NegativeInfinity, float.NaN],
            [float.NaN, float.NegativeInfinity, 1, float.NaN, 1],
            [1, float.PositiveInfinity, float.NaN, float.PositiveInfinity, 2],
            [float.PositiveInfinity, float.PositiveInfinity, float.PositiveInfinity, float.PositiveInfinity, float.NaN],
            [-3.3895314e38f, 3.3895314e38f, 0, -0f, 3.3895314e38f],
            [0f, -0f, 0f, -0f, 0f],
            [-0f, -1, -0f, 0f, -0f],
            [-0f, -0f, -1, -0f, -0f],
            [-0f, 0f, -0f, 0.25f, 0f],
        ];
        using var bench = new KernelBench(device);
        var draws = device == "cpu" ? 98 : 24;                                // 98: every temperature twice with every topP
        var rules = Rules(rows.Length * draws);
        for (var r = 0; r < rules.Length; r++)
        {
            rules[r] = rules[r] with { TopK = r % 6 };
        }

        var logits = bench.Copy<BFloat16>(new Shape(rules.Length, 5), [.. rows.SelectMany(row => Enumerable.Repeat(row, draws)).SelectMany(v => v).Select(v => (double)v)]);
        var tokens = Run(bench, logits, rules);
        Assert.Equal(Oracle(logits, rules), tokens);
        Assert.All(tokens.Take(3 * draws), t => Assert.Equal(0, t));
        Assert.All(tokens.Skip(3 * draws).Take(draws), t => Assert.True(t is 2 or 4));
        Assert.All(tokens.Skip(4 * draws).Take(draws), t => Assert.True(t is 1 or 3));
    }

    [Theory]
    [MemberData(nameof(KernelDevices.All), MemberType = typeof(KernelDevices))]
    public void Greedy_is_Argmax_and_so_is_one_of_the_largest(string device)
    {
        using var bench = new KernelBench(device);
        var logits = bench.Input<BFloat16>(new Shape(30, 301));              // 255 values, so there are ties
        var expected = bench.Ints(new int[30]);
        Argmax.Forward(bench.Cpu, logits, expected);
        foreach (var rule in (Rule[])[new(0, 0.9f, 5, 1, 1), new(1, 1, 1, 1, 1), new(1, 0, 0, 1, 1), new(1, 0, 1000, 1, 1)])
        {
            Assert.Equal(expected.Span.ToArray(), Run(bench, logits, [.. Enumerable.Repeat(rule, 30)]));
        }
    }

    [Theory]
    [InlineData("cpu", 20_000)]
    [InlineData("hostcuda", 300)]
    public void Frequencies_are_the_probabilities(string device, int draws)
    {
        // Hoeffding: |share − probability| passes sqrt(ln(2 / δ) / (2 n)) with probability δ at most; δ = 1e-9, for fixed seeds.
        double[] row = [0.5, -1, 2, 2, 1.25, -3, 0, 1.5];
        var limit = Math.Sqrt(Math.Log(2e9) / (2 * draws));
        using var bench = new KernelBench(device);
        var logits = bench.Copy<BFloat16>(new Shape(draws, row.Length), [.. Enumerable.Repeat(row, draws).SelectMany(v => v)]);
        Draws(i => new(0.8f, 1, 0, 42, i), Enumerable.Repeat(true, 8));                                     // one sequence, many draws
        Draws(i => new(0.8f, 1, 0, (ulong)i, 0), Enumerable.Repeat(true, 8));                               // many sequences, their first draw
        Draws(i => new(0.8f, 1, 3, 7, i), [false, false, true, true, false, false, false, true]);           // the three largest
        Draws(i => new(0.8f, 0.7f, 0, 7, i), [false, false, true, true, false, false, false, true]);        // 0.33 + 0.33 + 0.18

        void Draws(Func<int, Rule> rule, IEnumerable<bool> kept)
        {
            var weights = row.Zip(kept, (x, keep) => keep ? Math.Exp(x / 0.8f) : 0).ToArray();
            var tokens = Run(bench, logits, [.. Enumerable.Range(0, draws).Select(i => rule(i))]);
            for (var t = 0; t < row.Length; t++)
            {
                var (share, probability) = ((double)tokens.Count(x => x == t) / draws, weights[t] / weights.Sum());
                Assert.True(probability > 0 || share == 0, $"token {t} was cut and was drawn");
                Assert.True(Math.Abs(share - probability) <= limit, $"token {t}: share {share}, probability {probability}, limit {limit}");
            }
        }
    }

    [Fact]
    public void Weights_are_exponentials()
    {
        // Two roundings of x = (value − top) / temperature, 2^-24 of it each, then exp within 0.9 of 2^-23, then the integer.
        foreach (var scale in (int[])[32, 44, 45])
        {
            foreach (var temperature in (float[])[1, 0.3f, 7])
            {
                for (var i = 0; i <= 4000; i++)
                {
                    const float Top = 1.7f;
                    var value = Top - (i * 0.0091f * temperature);
                    var x = ((double)value - Top) / temperature;
                    var expected = Math.ScaleB(Math.Exp(x), scale);
                    var bound = 0.5 + (expected * ((Math.Abs(x) + 0.9) * 1.001 / (1 << 23)));
                    var actual = (double)Sample.Weight(value, Top, temperature, scale);
                    Assert.True(Math.Abs(actual - expected) <= bound, $"x = {x}: {actual}, expected {expected} within {bound}");
                }
            }
        }

        Assert.Equal(1UL << 45, Sample.Weight(3, 3, 0.1f, 45));
        Assert.Equal([45, 45, 45, 44, 32], ((int[])[1, 152_064, 1 << 18, (1 << 18) + 1, int.MaxValue]).Select(Sample.ScaleOf));
    }

    [Fact]
    public void The_target_is_exact()
    {
        foreach (var total in (ulong[])[1, 2, 3, 1UL << 45, (1UL << 63) - 12345, 1UL << 63, 0x1234_5678_9ABC_DEF])
        {
            foreach (var p in (float[])[0, float.Epsilon, 1e-30f, 1e-10f, 1e-5f, 0.1f, 0.25f, 0.5f, 0.9f, MathF.BitDecrement(1)])
            {
                Assert.Equal(Ceiling(p, total), Sample.Target(p, total));
            }
        }
    }

    [Fact]
    public void Rows_and_workers_do_not_matter()
    {
        using var bench = new KernelBench();
        var (logits, rules) = (bench.Input<BFloat16>(new Shape(33, 1001), 8), Rules(33));
        var (temperature, topP, topK, seed, counter) = Tensors(bench, rules);
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            var token = bench.Ints(new int[33]);
            Sample.Forward(stream, logits, temperature, topP, topK, seed, counter, token);
            return [KernelCheck.Bits(token)];
        });
        var together = Run(bench, logits, rules);
        for (var r = 0; r < 33; r++)
        {
            Assert.Equal(together[r], Run(bench, logits.Rows(r, 1), [rules[r]])[0]);
        }

        var again = bench.Ints(new int[33]);
        KernelCheck.AllocatesNothing(stream => Sample.Forward(stream, logits, temperature, topP, topK, seed, counter, again));
    }

    [Fact]
    public void Shapes_and_rules_are_checked()
    {
        using var bench = new KernelBench();
        var logits = bench.Input<float>(new Shape(2, 8));
        var (temperature, topP, topK, seed, counter) = Tensors(bench, Rules(2));
        var token = bench.Ints(-7, -7);
        Assert.Throws<ArgumentException>(() => Sample.Forward(bench.Stream, logits, temperature, topP, topK, seed, counter, bench.Ints(0)));
        Assert.Throws<ArgumentException>(() => Sample.Forward(bench.Stream, logits, temperature.Rows(0, 1), topP, topK, seed, counter, token));
        foreach (var bad in (float[])[-1, float.NaN, float.PositiveInfinity])
        {
            Refused(new(bad, 1, 0, 0, 0), "temperature");
        }

        foreach (var bad in (float[])[-0.1f, 1.1f, float.NaN])
        {
            Refused(new(1, bad, 0, 0, 0), "topP");
        }

        Refused(new(1, 1, -1, 0, 0), "topK");
        Assert.Equal([-7, -7], token.Span.ToArray());

        void Refused(Rule rule, string name)
        {
            var wrong = Tensors(bench, [new(1, 1, 0, 0, 0), rule]);
            var thrown = Assert.Throws<ArgumentOutOfRangeException>(() =>
                Sample.Forward(bench.Stream, logits, wrong.Temperature, wrong.TopP, wrong.TopK, wrong.Seed, wrong.Counter, token));
            Assert.Equal(name, thrown.ParamName);
            Assert.Contains("row 1", thrown.Message, StringComparison.Ordinal);
        }
    }

    private static void Check<T>(string device, int columns, int rows)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var (logits, rules) = (bench.Input<T>(new Shape(rows, columns), 8), Rules(rows));    // 255 values: many ties in a long row
        Assert.Equal(Oracle(logits, rules), Run(bench, logits, rules));
    }

    /// <summary>Every temperature meets every topP within 49 rows; topK goes from all over 1 and 2 to beyond the row.</summary>
    private static Rule[] Rules(int count) =>
        [.. Enumerable.Range(0, count).Select(r => new Rule(
            s_temperatures[r % 7], s_topP[(r + (r / 7)) % 7], ((int[])[0, 1, 2, 50, 1_000_000])[r % 5], unchecked((ulong)r * 0xD1342543DE82EF95), r * 31))];

    private static int[] Run<T>(KernelBench bench, Tensor<T> logits, Rule[] rules)
        where T : unmanaged
    {
        var (temperature, topP, topK, seed, counter) = Tensors(bench, rules);
        var token = bench.Ints([.. Enumerable.Repeat(-1, rules.Length)]);
        var onDevice = bench.Put(token);
        Sample.Forward(
            bench.Stream, bench.Put(logits), bench.Put(temperature), bench.Put(topP), bench.Put(topK), bench.Put(seed), bench.Put(counter), onDevice);
        bench.Get(onDevice, token);
        return token.Span.ToArray();
    }

    private static (Tensor<float> Temperature, Tensor<float> TopP, Tensor<int> TopK, Tensor<ulong> Seed, Tensor<int> Counter) Tensors(
        KernelBench bench, Rule[] rules)
    {
        var shape = new Shape(rules.Length);
        var (temperature, topP, seed) = (bench.Allocate<float>(shape), bench.Allocate<float>(shape), bench.Allocate<ulong>(shape));
        for (var r = 0; r < rules.Length; r++)
        {
            (temperature.Span[r], topP.Span[r], seed.Span[r]) = (rules[r].Temperature, rules[r].TopP, rules[r].Seed);
        }

        return (temperature, topP, bench.Ints([.. rules.Select(r => r.TopK)]), seed, bench.Ints([.. rules.Select(r => r.Counter)]));
    }

    /// <summary>The rule by sorting, sums in unbounded integers. Only the weight of one logit is the kernel's, tested on its own.</summary>
    private static int[] Oracle<T>(Tensor<T> logits, Rule[] rules)
        where T : unmanaged
    {
        var columns = logits.Shape[1];
        var values = KernelBench.Doubles(logits);
        return [.. rules.Select((rule, r) => Row(values.AsSpan(r * columns, columns).ToArray(), rule))];

        static int Row(double[] row, Rule rule)
        {
            var sorted = Enumerable.Range(0, row.Length).Where(i => !double.IsNaN(row[i])).OrderByDescending(i => row[i]).ThenBy(i => i).ToArray();
            if (sorted.Length == 0 || double.IsNegativeInfinity(row[sorted[0]]))
            {
                return 0;
            }

            if (rule.Temperature == 0)
            {
                return sorted[0];
            }

            var scale = 45;
            while ((BigInteger)row.Length << scale > BigInteger.One << 63)
            {
                scale--;
            }

            var weights = row.Select(x => (BigInteger)Sample.Weight((float)x, (float)row[sorted[0]], rule.Temperature, scale)).ToArray();
            var kept = rule.TopK == 0 ? sorted : sorted[..Math.Min(rule.TopK, sorted.Length)];
            var sum = kept.Aggregate(BigInteger.Zero, (s, i) => s + weights[i]);
            if (rule.TopP < 1)
            {
                var (target, count, reached) = ((BigInteger)Ceiling(rule.TopP, (ulong)sum), 0, BigInteger.Zero);
                while (reached < target)
                {
                    reached += weights[kept[count++]];
                }

                (kept, sum) = (kept[..count], reached);
            }

            var left = (((BigInteger)Random(rule.Seed, 2 * (long)rule.Counter) << 32) + Random(rule.Seed, (2 * (long)rule.Counter) + 1)) * sum >> 64;
            foreach (var i in kept.Order())
            {
                left -= weights[i];
                if (left < 0)
                {
                    return i;
                }
            }

            throw new InvalidOperationException("the weights do not add up");
        }

        static uint Random(ulong seed, long index)
        {
            // splitmix64: Steele, Lea, Flood 2014
            var z = unchecked(seed + ((ulong)(index + 1) * 0x9E3779B97F4A7C15));
            z = unchecked((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9);
            z = unchecked((z ^ (z >> 27)) * 0x94D049BB133111EB);
            return (uint)((z ^ (z >> 31)) >> 32);
        }
    }

    /// <summary>max(1, ⌈p · total⌉) in unbounded integers: p is a multiple of 2^-149.</summary>
    private static ulong Ceiling(float p, ulong total) =>
        (ulong)BigInteger.Max(1, ((new BigInteger(Math.ScaleB((double)p, 149)) * total) + (BigInteger.One << 149) - 1) >> 149);

    private sealed record Rule(float Temperature, float TopP, int TopK, ulong Seed, int Counter);
}
