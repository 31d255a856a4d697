namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>The tables of clauses. Their order is part of the split (<see cref="NanoSplit"/>): append, never reorder.</summary>
internal static class NanoClauses
{
    private static readonly NanoClause s_none = new("none", "", "");

    /// <summary>Conditions on a number x; also the filters of lists and ranges.</summary>
    public static readonly NanoClause[] Conditions =
    [
        s_none,
        new("even", "x % 2 == 0", "even", "not odd"),
        new("odd", "x % 2 == 1", "odd", "not even"),
        new("positive", "x > 0", "positive", "above zero"),
        new("negative", "x < 0", "negative", "below zero"),
        new("greater", "x > {c}", "greater than {c}", "larger than {c}", "above {c}"),
        new("less", "x < {c}", "less than {c}", "smaller than {c}", "below {c}"),
        new("divisible", "x % {c} == 0", "divisible by {c}", "evenly divisible by {c}"),
        new("indivisible", "x % {c} != 0", "not divisible by {c}", "indivisible by {c}"),
    ];

    /// <summary>What is done to a number x.</summary>
    public static readonly NanoClause[] Maps =
    [
        s_none,
        new("add", "x + {c}", "add {c} to {it}", "increase {it} by {c}", "raise {it} by {c}"),
        new("subtract", "x - {c}", "subtract {c} from {it}", "decrease {it} by {c}", "lower {it} by {c}"),
        new("multiply", "x * {c}", "multiply {it} by {c}", "scale {it} by {c}"),
        new("modulo", "x % {c}", "take {it} modulo {c}", "reduce {it} modulo {c}"),
        new("divide", "x // {c}", "floor divide {it} by {c}", "divide {it} by {c} rounding down"),
        new("from", "{c} - x", "replace {it} by {c} minus it", "turn {it} into {c} minus it"),
        new("square", "x * x", "square {it}", "multiply {it} by itself"),
        new("negate", "-x", "negate {it}", "flip the sign of {it}"),
        new("absolute", "abs(x)", "take the absolute value of {it}", "drop the sign of {it}"),
    ];

    /// <summary>What becomes of the list xs in the end.</summary>
    public static readonly NanoClause[] Reduces =
    [
        new("sum", "sum(xs)", "the sum", "the total", "their sum"),
        new("count", "len(xs)", "the count", "how many there are"),
        new("largest", "max(xs, default=0)", "the largest or 0", "the maximum or 0 if empty"),
        new("smallest", "min(xs, default=0)", "the smallest or 0", "the minimum or 0 if empty"),
        new("first", "xs[0] if xs else 0", "the first or 0", "the first one or 0 if empty"),
        new("last", "xs[-1] if xs else 0", "the last or 0", "the last one or 0 if empty"),
        new("distinct", "len(set(xs))", "the number of distinct values", "how many different values there are"),
        new("spread", "max(xs, default=0) - min(xs, default=0)", "the largest minus the smallest",
            "the difference of maximum and minimum"),
    ];

    /// <summary>Which characters ch of a string are kept.</summary>
    public static readonly NanoClause[] TextFilters =
    [
        s_none,
        new("vowels", "ch.lower() in \"aeiou\"", "vowels"),
        new("digits", "ch.isdigit()", "digits", "decimal digits"),
        new("letters", "ch.isalpha()", "letters", "alphabetic characters"),
        new("capitals", "ch.isupper()", "uppercase letters", "capital letters"),
        new("smalls", "ch.islower()", "lowercase letters", "small letters"),
        new("nonspaces", "ch != \" \"", "characters other than spaces", "characters that are not spaces"),
    ];

    /// <summary>What is done to a character ch.</summary>
    public static readonly NanoClause[] TextMaps =
    [
        s_none,
        new("upper", "ch.upper()", "uppercase {it}", "turn {it} into uppercase"),
        new("lower", "ch.lower()", "lowercase {it}", "turn {it} into lowercase"),
        new("double", "ch * 2", "double {it}", "write {it} twice"),
    ];

    /// <summary>What becomes of the characters in the end.</summary>
    public static readonly NanoClause[] TextFinishes =
    [
        new("joined", "\"\".join(cs)", "the resulting string", "the joined string"),
        new("reversed", "\"\".join(cs)[::-1]", "the reversed string", "the string backwards"),
        new("prefix", "\"\".join(cs)[:{c}]", "the first {c} characters", "at most {c} characters from the start"),
        new("length", "len(cs)", "the count", "how many there are"),
        new("lengthtimes", "len(cs) * {c}", "{c} times the count", "the count multiplied by {c}"),
        new("lengthplus", "len(cs) + {c}", "the count plus {c}", "the count increased by {c}"),
    ];

    /// <summary>The three tables of a family, in the order of its steps.</summary>
    public static (NanoClause[] First, NanoClause[] Second, NanoClause[] Third) Of(NanoFamily family) => family switch
    {
        NanoFamily.Choice => (Conditions, Maps, Maps),
        NanoFamily.Text => (TextFilters, TextMaps, TextFinishes),
        _ => (Conditions, Maps, Reduces),
    };

    /// <summary>Whether the three clauses make a problem in which each of them, and each constant, can change the answer.</summary>
    public static bool Allows(NanoFamily family, NanoClause first, NanoClause second, NanoClause third)
    {
        var (a, b, c) = (first.Key, second.Key, third.Key);
        switch (family)
        {
            case NanoFamily.Choice:
                return !first.IsNone && !second.IsNone && !third.IsNone && b != c
                    && !(a is "positive" && (b is "absolute" || (b, c) is ("negate", "absolute")))
                    && !(a is "negative" && (c is "absolute" || (b, c) is ("absolute", "negate")));
            case NanoFamily.Text:
                var quantity = c is "length" or "lengthtimes" or "lengthplus";
                var changes = (a, b) is not (("digits", "upper") or ("digits", "lower") or ("capitals", "upper") or ("smalls", "lower"));
                return changes && !(first.IsNone && second.IsNone && c == "joined") && !(quantity && !second.IsNone);
            default:
                // A count does not see the map; distinct values and the spread see only some maps.
                var seen = c switch
                {
                    "count" => second.IsNone,
                    "distinct" => b is "none" or "square" or "modulo" or "divide" or "absolute",
                    "spread" => b is "none" or "multiply" or "square" or "modulo" or "divide" or "absolute",
                    _ => true,
                };
                var signed = a is "positive" or "negative";
                var fits = family == NanoFamily.List || (!signed && b != "absolute" && (c is "sum" or "count" or "largest"));
                return seen && fits && !(first.IsNone && second.IsNone) && !(signed && b == "absolute");
        }
    }
}
