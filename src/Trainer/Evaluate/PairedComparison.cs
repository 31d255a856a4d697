using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>Two runs over the same tasks: far fewer tasks decide between them than between two runs over different ones.</summary>
public sealed record PairedComparison
{
    /// <summary>Tasks that both runs graded.</summary>
    public required int Tasks { get; init; }

    /// <summary>pass@1 of the first run on them.</summary>
    public required double A { get; init; }

    /// <summary>pass@1 of the second run on them.</summary>
    public required double B { get; init; }

    /// <summary>95 % interval of B - A by the seeded bootstrap over tasks.</summary>
    public required Interval Interval { get; init; }

    /// <summary>Tasks solved by the first run alone; with several samples those of which it solves a greater part.</summary>
    public required int OnlyA { get; init; }

    /// <summary>Tasks solved by the second run alone; with several samples those of which it solves a greater part.</summary>
    public required int OnlyB { get; init; }

    /// <summary>Tasks that both runs solve; with several samples those of which they solve the same part, and not none.</summary>
    public required int Both { get; init; }

    /// <summary>Tasks of which neither run solves a sample.</summary>
    public required int Neither { get; init; }

    /// <summary>
    /// Two-sided p of McNemar's exact test (Q. McNemar 1947): the chance of a split of the differing tasks at least as uneven as this one when each is
    /// equally likely to fall to either run. With several samples per task it is the sign test over tasks.
    /// </summary>
    public required double P { get; init; }

    /// <summary>Tasks that only one of the runs graded; they are left out.</summary>
    public required IReadOnlyList<string> Unpaired { get; init; }

    /// <summary>Tasks that both runs graded, in the order of the first run.</summary>
    public required IReadOnlyList<TaskDifference> Paired { get; init; }

    /// <summary>Those of them that differ.</summary>
    public IReadOnlyList<TaskDifference> Differences => [.. Paired.Where(t => t.A != t.B)];

    /// <summary>Compares <paramref name="b"/> with <paramref name="a"/>.</summary>
    /// <exception cref="InvalidInputException">They have no task in common.</exception>
    public static PairedComparison Of(IReadOnlyList<TaskVerdicts> a, IReadOnlyList<TaskVerdicts> b)
    {
        var other = b.ToDictionary(v => v.TaskId, StringComparer.Ordinal);
        var pairs = a.Where(v => other.ContainsKey(v.TaskId)).Select(v => (A: v, B: other[v.TaskId])).ToList();
        if (pairs.Count == 0)
        {
            throw new InvalidInputException("The two runs have no task in common; they must be of one benchmark.");
        }

        var common = pairs.Select(p => p.A.TaskId).ToHashSet(StringComparer.Ordinal);
        double[] left = [.. pairs.Select(p => Fraction(p.A))];
        double[] right = [.. pairs.Select(p => Fraction(p.B))];
        double[] differences = [.. left.Zip(right, (x, y) => y - x)];
        var (onlyA, onlyB) = (differences.Count(d => d < 0), differences.Count(d => d > 0));
        return new PairedComparison
        {
            Tasks = pairs.Count,
            A = PassAtK.Mean(left),
            B = PassAtK.Mean(right),
            Interval = PassAtK.Bootstrap(differences),
            OnlyA = onlyA,
            OnlyB = onlyB,
            Both = pairs.Where((_, i) => differences[i] == 0 && left[i] > 0).Count(),
            Neither = pairs.Where((_, i) => differences[i] == 0 && left[i] == 0).Count(),
            P = McNemar(onlyA, onlyB),
            Unpaired = [.. a.Concat(b).Select(v => v.TaskId).Where(id => !common.Contains(id))],
            Paired = [.. pairs.Select(p => new TaskDifference(p.A.TaskId, Fraction(p.A), Fraction(p.B), p.A.Outcome, p.B.Outcome))],
        };
    }

    /// <summary>p = min(1, 2 · sum over i = 0..min(b, c) of C(b+c, i) / 2^(b+c)); 1 when nothing differs.</summary>
    public static double McNemar(int onlyA, int onlyB)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(onlyA);
        ArgumentOutOfRangeException.ThrowIfNegative(onlyB);
        var n = onlyA + onlyB;
        var log = -n * Math.Log(2);                     // of C(n, 0) / 2^n; the plain number leaves the range of a double above n = 1074
        var sum = 0.0;
        for (var i = 0; i <= Math.Min(onlyA, onlyB); i++)
        {
            sum += Math.Exp(log);
            log += Math.Log((double)(n - i) / (i + 1));
        }

        return Math.Min(1, 2 * sum);
    }

    private static double Fraction(TaskVerdicts verdicts) => (double)verdicts.Passed.Count(p => p) / verdicts.Passed.Count;
}
