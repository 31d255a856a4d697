namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>
/// What training never sees, decided by two pure functions that do not depend on the seed: a seventh of the clause combinations, and
/// fifteen constants. A held-out problem has a held-out combination and, where it has constants, at least one reserved constant; a
/// training problem (and the base function of a self-invoking one) has neither.
/// </summary>
internal static class NanoSplit
{
    /// <summary>Not 2: "divisible by 2" is "even", and a held-out combination could come back under another name.</summary>
    public const int LowestConstant = 3;

    /// <summary>At most two digits; the tokenizer gives each its own token.</summary>
    public const int HighestConstant = 99;

    /// <summary>Constants of held-out problems only; every digit still occurs in both places among the others.</summary>
    public static readonly int[] ReservedConstants = [13, 17, 24, 28, 35, 37, 41, 46, 52, 59, 63, 68, 74, 86, 91];

    /// <summary>Constants of training problems.</summary>
    public static readonly int[] TrainingConstants =
        [.. Enumerable.Range(LowestConstant, HighestConstant - LowestConstant + 1).Where(c => !IsReserved(c))];

    public static bool IsReserved(int constant) => Array.IndexOf(ReservedConstants, constant) >= 0;

    /// <summary>
    /// Whether three clauses are held out together. Lists and ranges share their clauses and their verdict. With weights 1, 2, 4
    /// modulo 7, any two clauses meet in training with most of the third.
    /// </summary>
    public static bool IsHeldOut(NanoFamily family, NanoClause first, NanoClause second, NanoClause third)
    {
        var (a, b, c) = NanoClauses.Of(family);
        return (Array.IndexOf(a, first) + (2 * Array.IndexOf(b, second)) + (4 * Array.IndexOf(c, third))) % 7 == 5;
    }
}
