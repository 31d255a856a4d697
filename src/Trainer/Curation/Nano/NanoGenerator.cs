namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>Draws problems. The n-th draw of a stream depends only on (seed, stream, n).</summary>
internal static class NanoGenerator
{
    /// <summary>Names of plain functions; none is a Python builtin, a parameter or a word of the test harness.</summary>
    public static readonly string[] Names =
    [
        "score", "gather", "solve", "measure", "rate", "tally", "weigh", "grade", "blend", "craft", "derive", "glean", "handle", "judge",
        "process", "compute", "reckon", "settle", "shape", "sift",
    ];

    /// <summary>Names of functions that call another: a pool of their own, so that a tiny model can tell which of the two names it is to
    /// copy (with one pool, most of its failures were a correct second function under the first one's name).</summary>
    public static readonly string[] CallerNames =
    [
        "trace", "track", "tune", "value", "combine", "digest", "evaluate", "extract", "figure", "render", "resolve", "survey",
    ];

    // Plain training problems take theirs from both pools: copying names whose tokens first occur in stage 2 would have to be learnt there.
    private static readonly string[] s_trainingNames = [.. Names, .. CallerNames];

    // Lists are the main family, and the only one beside Choice that a second function calls.
    private static readonly NanoFamily[] s_families =
    [
        NanoFamily.List, NanoFamily.List, NanoFamily.List, NanoFamily.List, NanoFamily.List, NanoFamily.Range, NanoFamily.Choice,
        NanoFamily.Choice, NanoFamily.Choice, NanoFamily.Text,
    ];

    /// <summary>Draw number <paramref name="index"/>: a problem of the wanted side of the split, or null if it gives none.</summary>
    public static NanoTask? Draw(ulong seed, ulong stream, int index, bool selfInvoking, bool heldOut)
    {
        var random = new NanoRandom(seed, stream, (ulong)index);
        var family = random.Pick<NanoFamily>(s_families);
        NanoForm? form = null;
        if (selfInvoking)
        {
            form = random.Pick<NanoForm>(NanoForms.All);
            family = form.Base;
        }

        var tables = NanoClauses.Of(family);
        var a = random.Pick<NanoClause>(tables.First);
        var b = random.Pick<NanoClause>(tables.Second);
        var c = random.Pick<NanoClause>(tables.Third);
        if (!NanoClauses.Allows(family, a, b, c) || NanoSplit.IsHeldOut(family, a, b, c) != heldOut)
        {
            return null;
        }

        // Held out: one place, drawn at random, has a reserved constant; the others have any constant.
        var places = (a.HasConstant ? 1 : 0) + (b.HasConstant ? 1 : 0) + (c.HasConstant ? 1 : 0) + (form is { HasConstant: true } ? 1 : 0);
        var reserved = heldOut && places > 0 ? random.Below(places) : -1;
        var names = form is null && !heldOut ? s_trainingNames : Names;
        var problem = new NanoProblem(family, random.Pick<string>(names), random.Below(NanoQuestion.Wordings),
            Step(a, ref random), Step(b, ref random), Step(c, ref random));
        if (form is null)
        {
            return new NanoTask(problem, null);
        }

        return new NanoTask(
            problem, new NanoCall(form, random.Pick<string>(CallerNames), Constant(form.HasConstant, ref random), random.Below(6)));

        NanoStep Step(NanoClause clause, ref NanoRandom random) => new(clause, Constant(clause.HasConstant, ref random), random.Below(6));

        int Constant(bool wanted, ref NanoRandom random)
        {
            if (!wanted)
            {
                return 0;
            }

            var isReserved = reserved-- == 0;
            return isReserved ? random.Pick<int>(NanoSplit.ReservedConstants)
                : heldOut ? random.Between(NanoSplit.LowestConstant, NanoSplit.HighestConstant)
                : random.Pick<int>(NanoSplit.TrainingConstants);
        }
    }

    /// <summary>Training problems, all texts distinct; <paramref name="plainPercent"/> of them are plain.</summary>
    public static List<NanoTask> Training(ulong seed, ulong stream, int count, int plainPercent)
    {
        var tasks = new List<NanoTask>(count);
        var texts = new HashSet<string>(StringComparer.Ordinal);
        for (var index = 0; tasks.Count < count; index++)
        {
            if (index > 100 * (count + 100))
            {
                throw new InvalidOperationException($"only {tasks.Count} of {count} distinct nano problems were found in {index} draws");
            }

            // Spread evenly: position k is plain when the running share passes a whole number.
            var k = tasks.Count;
            var plain = (long)(k + 1) * plainPercent / 100 > (long)k * plainPercent / 100;
            if (Draw(seed, stream, index, !plain, heldOut: false) is { } task && texts.Add(NanoQuestion.Of(task)))
            {
                tasks.Add(task);
            }
        }

        return tasks;
    }
}
