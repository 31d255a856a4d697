using System.Numerics;
using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

public sealed class PairedComparisonTests
{
    [Fact]
    public void McNemar_is_the_exact_binomial_tail()
    {
        // Oracle: whole numbers. p = 2 * sum C(n, i) / 2^n, at most 1.
        for (var n = 0; n <= 60; n++)
        {
            for (var b = 0; b <= n; b++)
            {
                BigInteger sum = 0, choose = 1;
                for (var i = 0; i <= Math.Min(b, n - b); i++)
                {
                    sum += choose;
                    choose = choose * (n - i) / (i + 1);
                }

                var expected = Math.Min(1, (double)(2 * sum) / Math.Pow(2, n));
                Assert.True(Math.Abs(PairedComparison.McNemar(b, n - b) - expected) <= 1e-12 * expected, $"{b} of {n}");
            }
        }

        // Far outside the range in which 2^-n is a number: the normal approximation of a fair coin's tail.
        Assert.InRange(PairedComparison.McNemar(1950, 2050), 0.11, 0.13);
        Assert.Equal(1, PairedComparison.McNemar(1000, 1000));
    }

    [Fact]
    public void Tasks_are_paired_by_name_and_the_differing_ones_listed_in_order()
    {
        var a = Verdicts("a+ b- c+ d- e+ x+");
        var b = Verdicts("e- d+ c+ b+ a+ y-");
        var c = PairedComparison.Of(a, b);
        Assert.Equal((5, 0.6, 0.8, 1, 2), (c.Tasks, c.A, c.B, c.OnlyA, c.OnlyB));
        Assert.Equal(1, c.P);
        Assert.Equal(["x", "y"], c.Unpaired);
        Assert.Equal(["b", "d", "e"], c.Differences.Select(d => d.TaskId));
        Assert.Equal(new TaskDifference("e", 1, 0, "Passed", "Failed"), c.Differences[2]);
        Assert.InRange(c.B - c.A, c.Interval.Low, c.Interval.High);
        Assert.Throws<InvalidInputException>(() => PairedComparison.Of(a, Verdicts("z+")));
    }

    [Fact]
    public void Several_samples_count_as_fractions()
    {
        var c = PairedComparison.Of([new("a", [true, false], "Failed")], [new("a", [true, true], "Passed")]);
        Assert.Equal((0.5, 1.0, 0, 1), (c.A, c.B, c.OnlyA, c.OnlyB));
    }

    [Theory]
    [InlineData("""{"sample": 0, "passed": true}""", "task_id")]
    [InlineData("""{"task_id": "a", "sample": 0}""", "passed")]
    [InlineData("""{"task_id": "a", "sample": 0, "passed": 1}""", "passed")]
    [InlineData("""{"task_id": "a", "passed": true}""", "sample")]
    [InlineData("""{"task_id": "a", "sample": 1, "passed": true}""", "sample 1")]
    public void A_bad_result_is_named(string row, string part)
    {
        var error = Assert.Throws<InvalidInputException>(() => TaskVerdicts.Read(TestFiles.Temporary(row + "\n")));
        Assert.Contains("file.jsonl:1", error.Message, StringComparison.Ordinal);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    private static List<TaskVerdicts> Verdicts(string text) =>
        [.. text.Split(' ').Select(t => new TaskVerdicts(t[..^1], [t[^1] == '+'], t[^1] == '+' ? "Passed" : "Failed"))];
}
