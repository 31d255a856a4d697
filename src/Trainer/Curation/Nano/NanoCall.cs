namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>The second function of a self-invoking problem: its form, name, constant (0 where it has none) and phrase.</summary>
internal sealed record NanoCall(NanoForm Form, string Name, int Constant, int Phrase)
{
    public string Code(string f) => Fill(Form.Code, f);

    public string Say(string f) => Fill(Form.Phrases[Phrase % Form.Phrases.Length], f);

    /// <summary>The value of the second function, from its meaning; f is the first function.</summary>
    public NanoValue Evaluate(NanoProblem f, NanoValue[] arguments)
    {
        var first = arguments[0];
        switch (Form.Key)
        {
            case "rowsmax":
                return new NanoValue(first.Rows.Select(f.Fold).DefaultIfEmpty().Max());
            case "rowsmin":
                return new NanoValue(first.Rows.Select(f.Fold).DefaultIfEmpty().Min());
            case "rowssum":
                return new NanoValue(first.Rows.Sum(f.Fold));
            case "rowscount":
                return new NanoValue((long)first.Rows.Count(row => f.Fold(row) > Constant));
            case "pairsum":
                return new NanoValue(f.Fold(first.List) + f.Fold(arguments[1].List));
            case "pairdifference":
                return new NanoValue(f.Fold(first.List) - f.Fold(arguments[1].List));
            case "pairgreater":
                return new NanoValue(f.Fold(first.List) > f.Fold(arguments[1].List));
            case "halves":
                var half = first.List.Length / 2;
                return new NanoValue(f.Fold(first.List.Take(half)) + f.Fold(first.List.Skip(half)));
            case "prefixes":
                return new NanoValue(Enumerable.Range(1, first.List.Length).Sum(n => f.Fold(first.List.Take(n))));
            case "atleast":
                return new NanoValue(Math.Max(f.Fold(first.List), Constant));
            case "times":
                return new NanoValue(f.Fold(first.List) * Constant);
            case "eachsum":
                return new NanoValue(first.List.Sum(x => One(f, x)));
            case "eachmax":
                return new NanoValue(first.List.Select(x => One(f, x)).DefaultIfEmpty().Max());
            case "eachcount":
                return new NanoValue((long)first.List.Count(x => One(f, x) > Constant));
            case "twice":
                return new NanoValue(One(f, One(f, first.Number)));
            case "plus":
                return new NanoValue(One(f, first.Number) + Constant);
            default:
                throw new InvalidOperationException($"no meaning for form '{Form.Key}'");
        }
    }

    private static long One(NanoProblem f, long x) => f.Evaluate(new NanoValue(x)).Number;

    private string Fill(string text, string f) =>
        text.Replace("{f}", f, StringComparison.Ordinal).Replace("{c}", Constant.ToString(), StringComparison.Ordinal);
}
