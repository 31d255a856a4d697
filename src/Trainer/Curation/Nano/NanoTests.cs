using System.Text;

namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>
/// Writes the tests of a held-out problem: inputs are chosen from a pool until every mutant (<see cref="NanoMutants"/>) gives another
/// answer on at least one of them. A problem for which that fails within the limits is not used.
/// </summary>
internal static class NanoTests
{
    private const int Pool = 90;
    private const int FewestCases = 6;
    private const int MostCases = 10;

    /// <summary>The HumanEval-style test: def check(candidate). Null when some mutant would pass.</summary>
    public static string? Of(NanoTask task, ref NanoRandom random)
    {
        var text = new StringBuilder("def check(candidate):\n");
        var problem = task.Base;
        var oneMutants = NanoMutants.Of(problem).ConvertAll<Func<NanoValue[], NanoValue>>(m => a => m.Evaluate(a[0]));
        var plainPool = new List<NanoValue[]>(Pool);
        for (var i = 0; i < Pool; i++)
        {
            plainPool.Add([Argument(problem, i, ref random)]);
        }

        var callsFirst = task.Call is null ? "candidate" : problem.Name;
        if (!Write(text, callsFirst, plainPool, a => problem.Evaluate(a[0]), oneMutants))
        {
            return null;
        }

        if (task.Call is not { } call)
        {
            return text.ToString();
        }

        var pool = new List<NanoValue[]>(Pool);
        for (var i = 0; i < Pool; i++)
        {
            pool.Add(Arguments(task, i, ref random));
        }

        var callMutants = NanoMutants.Of(call).ConvertAll<Func<NanoValue[], NanoValue>>(m => a => m.Evaluate(problem, a));
        return Write(text, "candidate", pool, a => call.Evaluate(problem, a), callMutants) ? text.ToString() : null;
    }

    private static bool Write(
        StringBuilder text,
        string function,
        List<NanoValue[]> pool,
        Func<NanoValue[], NanoValue> right,
        List<Func<NanoValue[], NanoValue>> mutants)
    {
        var expected = pool.ConvertAll(a => right(a).Literal);
        var kills = pool.ConvertAll(a => new bool[mutants.Count]);
        for (var i = 0; i < pool.Count; i++)
        {
            for (var m = 0; m < mutants.Count; m++)
            {
                kills[i][m] = mutants[m](pool[i]).Literal != expected[i];
            }
        }

        // The empty input and one with negative numbers always; then whatever kills most of what is left; then the pool in order.
        var chosen = new List<int> { 0, 1 };
        var alive = Enumerable.Range(0, mutants.Count).Where(m => !kills[0][m] && !kills[1][m]).ToList();
        while (alive.Count > 0)
        {
            var best = Enumerable.Range(0, pool.Count).MaxBy(i => alive.Count(m => kills[i][m]));
            if (chosen.Count == MostCases || alive.RemoveAll(m => kills[best][m]) == 0)
            {
                return false;
            }

            chosen.Add(best);
        }

        for (var i = 2; chosen.Count < FewestCases && i < pool.Count; i++)
        {
            if (!chosen.Contains(i))
            {
                chosen.Add(i);
            }
        }

        foreach (var i in chosen)
        {
            text.Append($"    assert {function}({string.Join(", ", pool[i].Select(a => a.Literal))}) == {expected[i]}\n");
        }

        // One answer for every input would let a constant function pass.
        return chosen.Select(i => expected[i]).Distinct().Count() > 1;
    }

    // What the first function is tested on. Number 0 is the empty input, number 1 has negative numbers.
    private static NanoValue Argument(NanoProblem problem, int number, ref NanoRandom random)
    {
        int[] constants = [.. problem.Constants];
        switch (problem.Family)
        {
            case NanoFamily.List:
                return new NanoValue(List(constants, number, ref random));
            case NanoFamily.Range:
                return new NanoValue(number == 0 ? 0 : number == 1 ? -3 : random.Between(1, 220));
            case NanoFamily.Choice:
                return new NanoValue(number == 0 ? 0 : number == 1 ? random.Between(-60, -1) : Number(constants, ref random));
            default:
                return new NanoValue(Characters(constants, number, ref random));
        }
    }

    private static NanoValue[] Arguments(NanoTask task, int number, ref NanoRandom random)
    {
        int[] constants = [.. task.Constants];
        switch (task.Call!.Form.Parameters)
        {
            case "rows":
                var rows = new long[number == 0 ? 0 : random.Between(1, 4)][];
                for (var i = 0; i < rows.Length; i++)
                {
                    rows[i] = List(constants, i == 0 ? number : i + 2, ref random);
                }

                return [new NanoValue(rows)];
            case "xs, ys":
                return [new NanoValue(List(constants, number, ref random)), new NanoValue(List(constants, number, ref random))];
            case "x":
                return [new NanoValue(number == 0 ? 0 : number == 1 ? random.Between(-60, -1) : Number(constants, ref random))];
            default:
                return [new NanoValue(List(constants, number, ref random))];
        }
    }

    private static long[] List(int[] constants, int number, ref NanoRandom random)
    {
        if (number == 0)
        {
            return [];
        }

        var list = new long[random.Between(1, 7)];
        for (var i = 0; i < list.Length; i++)
        {
            list[i] = number == 1 ? random.Between(-60, -1) : Number(constants, ref random);
        }

        return list;
    }

    // Near a constant, near a multiple of one, or anything.
    private static long Number(int[] constants, ref NanoRandom random)
    {
        var kind = random.Below(5);
        if (constants.Length == 0 || kind == 0)
        {
            return random.Between(-40, 120);
        }

        var c = random.Pick<int>(constants);
        return kind switch
        {
            1 => c + random.Between(-2, 2),
            2 => c * random.Between(-3, 12),
            3 => (c * random.Between(-3, 12)) + random.Between(-1, 1),
            _ => random.Between(-5, 12 * c),
        };
    }

    private static string Characters(int[] constants, int number, ref NanoRandom random)
    {
        if (number == 0)
        {
            return "";
        }

        // Only the first c characters need strings longer than c.
        var most = constants.Length > 0 && number % 2 == 0 ? 2 * constants[0] : 14;
        var text = new char[random.Between(2, most + 4)];
        string[] classes = ["aeiou", "AEIOU", "0123456789", "bcdfghjklmnpqrstvwxyz", "BCDFGHJKLMNPQRSTVWXYZ", "    ", "-.!?", "aeiou"];
        var favourite = random.Pick<string>(classes);
        for (var i = 0; i < text.Length; i++)
        {
            var from = random.Below(3) == 0 ? random.Pick<string>(classes) : favourite;
            text[i] = from[random.Below(from.Length)];
        }

        return new string(text);
    }
}
