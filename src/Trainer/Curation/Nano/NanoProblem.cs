namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>A plain problem: a function of a given name that does three steps (of which the first two may be left out).</summary>
internal sealed record NanoProblem(NanoFamily Family, string Name, int Wording, NanoStep First, NanoStep Second, NanoStep Third)
{
    /// <summary>The parameter of the function.</summary>
    public string Parameter => Family switch
    {
        NanoFamily.List => "xs",
        NanoFamily.Range => "n",
        NanoFamily.Choice => "x",
        _ => "s",
    };

    /// <summary>What the split and the decontamination look at. Lists and ranges count as one.</summary>
    public string Combination
    {
        get
        {
            var kind = Family switch
            {
                NanoFamily.Choice => "choice",
                NanoFamily.Text => "text",
                _ => "sequence",
            };
            return $"{kind}/{First.Clause.Key}/{Second.Clause.Key}/{Third.Clause.Key}";
        }
    }

    public bool IsHeldOut => NanoSplit.IsHeldOut(Family, First.Clause, Second.Clause, Third.Clause);

    public NanoStep[] Steps => [First, Second, Third];

    public IEnumerable<int> Constants => Steps.Where(s => s.Clause.HasConstant).Select(s => s.Constant);

    /// <summary>The value of the function, from the meaning of the clauses.</summary>
    public NanoValue Evaluate(NanoValue argument)
    {
        switch (Family)
        {
            case NanoFamily.Choice:
                return new NanoValue(NanoSemantics.Apply(NanoSemantics.Holds(First, argument.Number) ? Second : Third, argument.Number));
            case NanoFamily.Text:
                var pieces = new List<string>();
                foreach (var ch in argument.Text)
                {
                    if (NanoSemantics.Keeps(First, ch))
                    {
                        pieces.Add(NanoSemantics.Rewrite(Second, ch));
                    }
                }

                return NanoSemantics.Finish(Third, pieces);
            default:
                return new NanoValue(Fold(Family == NanoFamily.List ? argument.List : Upto(argument.Number)));
        }
    }

    /// <summary>The value of a list problem.</summary>
    public long Fold(IEnumerable<long> xs)
    {
        var values = new List<long>();
        foreach (var x in xs)
        {
            if (NanoSemantics.Holds(First, x))
            {
                values.Add(NanoSemantics.Apply(Second, x));
            }
        }

        return NanoSemantics.Reduce(Third, values);
    }

    private static IEnumerable<long> Upto(long n)
    {
        for (var x = 1L; x <= n; x++)
        {
            yield return x;
        }
    }
}
