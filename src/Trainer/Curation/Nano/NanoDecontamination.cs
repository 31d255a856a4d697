namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>What training problems share with held-out ones; every hit is a defect.</summary>
/// <param name="Training">Training problems looked at.</param>
/// <param name="HeldOut">Held-out problems looked at.</param>
/// <param name="CombinationHits">Training problems whose plain or base combination some held-out problem has.</param>
/// <param name="ConstantHits">Training problems with a reserved constant.</param>
/// <param name="TextHits">Training problems whose question some held-out problem has.</param>
public sealed record NanoDecontamination(int Training, int HeldOut, int CombinationHits, int ConstantHits, int TextHits)
{
    /// <summary>Nothing is shared.</summary>
    public bool IsClean => CombinationHits == 0 && ConstantHits == 0 && TextHits == 0;

    internal static NanoDecontamination Check(IReadOnlyCollection<NanoTask> training, IReadOnlyCollection<NanoTask> heldOut)
    {
        var combinations = heldOut.Select(t => t.Base.Combination).ToHashSet(StringComparer.Ordinal);
        var texts = heldOut.Select(NanoQuestion.Of).ToHashSet(StringComparer.Ordinal);
        return new NanoDecontamination(
            training.Count,
            heldOut.Count,
            training.Count(t => combinations.Contains(t.Base.Combination)),
            training.Count(t => t.Constants.Any(NanoSplit.IsReserved)),
            training.Count(t => texts.Contains(NanoQuestion.Of(t))));
    }
}
