using System.Globalization;
using System.Numerics;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// When printed text counts as the expected text, as LiveCodeBench grades it: blanks around the whole text and around each line do not count; the
/// numbers of lines must be equal; two lines are equal when their text is, or when both are decimal numbers separated by blanks, as many on one as
/// on the other, pairwise equal in value and exactly ("1.0" equals "1", "1e3" equals "1000"; no tolerance).
/// </summary>
public static class PrintedOutput
{
    private const int MostExponent = 1_000_000;         // a larger one would take that many digits to compare

    /// <summary>True when <paramref name="printed"/> counts as <paramref name="expected"/>.</summary>
    public static bool Matches(string printed, string expected) => Difference(printed, expected) is null;

    /// <summary>Null when they match, otherwise one line that says where they part.</summary>
    public static string? Difference(string printed, string expected)
    {
        var (got, want) = (Lines(printed), Lines(expected));
        if (got.Length != want.Length)
        {
            return $"{got.Length} lines printed, {want.Length} expected";
        }

        for (var i = 0; i < want.Length; i++)
        {
            var (a, b) = (got[i].Trim(), want[i].Trim());
            if (a != b && !SameNumbers(a, b))
            {
                return $"line {i + 1}: printed {Short(a)}, expected {Short(b)}";
            }
        }

        return null;
    }

    private static string[] Lines(string text) => text.Trim().Split('\n');

    private static string Short(string line) => line.Length <= 80 ? $"\"{line}\"" : $"\"{line[..80]}…\"";

    private static bool SameNumbers(string a, string b)
    {
        var (left, right) = (a.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries), b.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        return left.Length == right.Length && left.Zip(right).All(pair => SameNumber(pair.First, pair.Second));
    }

    private static bool SameNumber(string a, string b) => Parse(a) is { } x && Parse(b) is { } y && x == y;

    // Sign, digits without trailing zeros, and the power of ten of the last of them: equal exactly when the values are.
    private static (BigInteger Digits, int Exponent, string Special)? Parse(string text)
    {
        var sign = text is ['-', ..] ? -1 : 1;
        var rest = text is ['-' or '+', ..] ? text[1..] : text;
        if (rest.Equals("inf", StringComparison.OrdinalIgnoreCase) || rest.Equals("infinity", StringComparison.OrdinalIgnoreCase))
        {
            return (sign, 0, "infinity");
        }

        var e = rest.IndexOfAny(['e', 'E']);
        var exponent = 0;
        if (e >= 0 && !int.TryParse(rest.AsSpan(e + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out exponent))
        {
            return null;
        }

        var digits = (e < 0 ? rest : rest[..e]).Replace("_", "", StringComparison.Ordinal);
        var point = digits.IndexOf('.', StringComparison.Ordinal);
        if (point >= 0)
        {
            exponent -= digits.Length - point - 1;
            digits = digits.Remove(point, 1);
        }

        if (digits.Length == 0 || digits.AsSpan().IndexOfAnyExceptInRange('0', '9') >= 0 || Math.Abs((long)exponent) > MostExponent)
        {
            return null;
        }

        var kept = digits.TrimEnd('0');
        return kept.TrimStart('0').Length == 0
            ? (BigInteger.Zero, 0, "")
            : (sign * BigInteger.Parse(kept, NumberStyles.None, CultureInfo.InvariantCulture), exponent + digits.Length - kept.Length, "");
    }
}
