namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>What the clauses mean, in C#: the expected values of the benchmark come from here, never from running the Python.</summary>
internal static class NanoSemantics
{
    public static bool Holds(NanoStep condition, long x) => condition.Clause.Key switch
    {
        "none" => true,
        "even" => x % 2 == 0,
        "odd" => x % 2 != 0,
        "positive" => x > 0,
        "negative" => x < 0,
        "greater" => x > condition.Constant,
        "less" => x < condition.Constant,
        "divisible" => x % condition.Constant == 0,
        "indivisible" => x % condition.Constant != 0,
        var key => throw new InvalidOperationException($"no meaning for condition '{key}'"),
    };

    public static long Apply(NanoStep map, long x) => map.Clause.Key switch
    {
        "none" => x,
        "add" => x + map.Constant,
        "subtract" => x - map.Constant,
        "multiply" => x * map.Constant,
        "modulo" => x - (map.Constant * FloorDivide(x, map.Constant)),
        "divide" => FloorDivide(x, map.Constant),
        "from" => map.Constant - x,
        "square" => checked(x * x),
        "negate" => -x,
        "absolute" => Math.Abs(x),
        var key => throw new InvalidOperationException($"no meaning for map '{key}'"),
    };

    public static long Reduce(NanoStep reduce, List<long> xs) => reduce.Clause.Key switch
    {
        "sum" => xs.Sum(),
        "count" => xs.Count,
        "distinct" => xs.Distinct().Count(),
        _ when xs.Count == 0 => 0,
        "largest" => xs.Max(),
        "smallest" => xs.Min(),
        "first" => xs[0],
        "last" => xs[^1],
        "spread" => xs.Max() - xs.Min(),
        var key => throw new InvalidOperationException($"no meaning for reduce '{key}'"),
    };

    // Characters of the benchmark are ASCII, where C# and Python agree on classes and case.
    public static bool Keeps(NanoStep filter, char ch) => filter.Clause.Key switch
    {
        "none" => true,
        "vowels" => "aeiouAEIOU".Contains(ch),
        "digits" => char.IsAsciiDigit(ch),
        "letters" => char.IsAsciiLetter(ch),
        "capitals" => char.IsAsciiLetterUpper(ch),
        "smalls" => char.IsAsciiLetterLower(ch),
        "nonspaces" => ch != ' ',
        var key => throw new InvalidOperationException($"no meaning for text filter '{key}'"),
    };

    public static string Rewrite(NanoStep map, char ch) => map.Clause.Key switch
    {
        "none" => ch.ToString(),
        "upper" => char.ToUpperInvariant(ch).ToString(),
        "lower" => char.ToLowerInvariant(ch).ToString(),
        "double" => new string(ch, 2),
        var key => throw new InvalidOperationException($"no meaning for text map '{key}'"),
    };

    public static NanoValue Finish(NanoStep finish, List<string> pieces)
    {
        var joined = string.Concat(pieces);
        return finish.Clause.Key switch
        {
            "joined" => new NanoValue(joined),
            "reversed" => new NanoValue(new string([.. joined.Reverse()])),
            "prefix" => new NanoValue(joined[..Math.Min(finish.Constant, joined.Length)]),
            "length" => new NanoValue(pieces.Count),
            "lengthtimes" => new NanoValue(pieces.Count * (long)finish.Constant),
            "lengthplus" => new NanoValue(pieces.Count + (long)finish.Constant),
            var key => throw new InvalidOperationException($"no meaning for text finish '{key}'"),
        };
    }

    private static long FloorDivide(long x, long by) => (x / by) - (x % by < 0 ? 1 : 0);
}
