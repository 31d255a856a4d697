namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>A clause with its constant (0 where it has none) and the number of its phrase.</summary>
internal readonly record struct NanoStep(NanoClause Clause, int Constant, int Phrase)
{
    public string Code => Fill(Clause.Code);

    public string Say(string it) => Fill(Clause.Phrases[Phrase % Clause.Phrases.Length]).Replace("{it}", it, StringComparison.Ordinal);

    private string Fill(string text) => text.Replace("{c}", Constant.ToString(), StringComparison.Ordinal);
}
