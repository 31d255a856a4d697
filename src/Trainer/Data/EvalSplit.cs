namespace Z1Coder.Trainer.Data;

/// <summary>
/// Which records are held out for evaluation: a pure function of a record's prompt and a seed. A prompt never stands on both sides,
/// and a record keeps its side when others are added or removed, or files are reordered.
/// </summary>
public static class EvalSplit
{
    /// <summary>True for about <paramref name="fraction"/> of all prompts.</summary>
    public static bool IsHeldOut(SftRecord record, double fraction, ulong seed) =>
        fraction > 0 && (ulong)(ContentHash.OfPrompt(record, seed) >> 64) * (1.0 / 18446744073709551616.0) < fraction;
}
