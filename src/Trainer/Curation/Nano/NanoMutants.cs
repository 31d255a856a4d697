namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>The mistakes a model makes: one clause exchanged or left out, one constant with a wrong, lost or exchanged digit.</summary>
internal static class NanoMutants
{
    /// <summary>Every problem that differs from <paramref name="problem"/> in one step.</summary>
    public static List<NanoProblem> Of(NanoProblem problem)
    {
        var tables = NanoClauses.Of(problem.Family);
        var mutants = new List<NanoProblem>();
        foreach (var step in Steps(problem.First, tables.First))
        {
            mutants.Add(problem with { First = step });
        }

        foreach (var step in Steps(problem.Second, tables.Second))
        {
            mutants.Add(problem with { Second = step });
        }

        foreach (var step in Steps(problem.Third, tables.Third))
        {
            mutants.Add(problem with { Third = step });
        }

        if (problem.Family == NanoFamily.Choice)
        {
            mutants.RemoveAll(m => m.Steps.Any(s => s.Clause.IsNone));
        }

        // Over 1..n these are the same problem as without the filter or the map.
        if (problem.Family == NanoFamily.Range)
        {
            mutants.RemoveAll(m => m.First.Clause.Key == "positive" || m.Second.Clause.Key == "absolute");
            mutants.RemoveAll(m => !m.Third.Equals(problem.Third) && m.Third.Clause.Key is not ("sum" or "count" or "largest"));
        }

        return mutants;
    }

    /// <summary>Every call that differs from <paramref name="call"/> in the form (of the same parameters) or the constant.</summary>
    public static List<NanoCall> Of(NanoCall call)
    {
        var mutants = new List<NanoCall>();
        foreach (var form in NanoForms.All)
        {
            if (form != call.Form && form.Base == call.Form.Base && form.Parameters == call.Form.Parameters)
            {
                mutants.Add(call with { Form = form, Constant = call.Form.HasConstant ? call.Constant : form.HasConstant ? 5 : 0 });
            }
        }

        if (call.Form.HasConstant)
        {
            mutants.AddRange(Constants(call.Constant).Select(c => call with { Constant = c }));
        }

        return mutants;
    }

    private static IEnumerable<NanoStep> Steps(NanoStep step, NanoClause[] table)
    {
        foreach (var clause in table)
        {
            if (clause != step.Clause)
            {
                yield return new NanoStep(clause, clause.HasConstant ? (step.Clause.HasConstant ? step.Constant : 5) : 0, 0);
            }
        }

        if (step.Clause.HasConstant)
        {
            foreach (var c in Constants(step.Constant))
            {
                yield return step with { Constant = c };
            }
        }
    }

    // Off by one, a digit lost, the digits exchanged, the first digit off by one.
    private static IEnumerable<int> Constants(int constant)
    {
        var (tens, units) = (constant / 10, constant % 10);
        int[] wrong = [constant + 1, constant - 1, tens, units, (units * 10) + tens, constant + 10, constant - 10];
        return wrong.Where(c => c > 1 && c != constant).Distinct();
    }
}
