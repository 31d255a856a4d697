namespace Z1Coder.Trainer.Checkpoints;

/// <summary>Which known names a wrong one may have meant.</summary>
internal static class NearestNames
{
    private const int Shown = 3, Longest = 200;

    /// <summary>"; the nearest are 'a', 'b'", or that there are none.</summary>
    public static string Phrase(string name, IEnumerable<string> known)
    {
        var nearest = known.Where(k => k.Length <= Longest).OrderBy(k => Distance(name, k)).ThenBy(k => k, StringComparer.Ordinal).Take(Shown).ToArray();
        return nearest.Length == 0 ? "; it holds none at all" : $"; the nearest are {string.Join(", ", nearest.Select(Quoted.Name))}";
    }

    /// <summary>Insertions, deletions and replacements from one to the other.</summary>
    private static int Distance(ReadOnlySpan<char> a, ReadOnlySpan<char> b)
    {
        a = a[..Math.Min(a.Length, Longest)];
        Span<int> row = stackalloc int[b.Length + 1];
        for (var j = 0; j <= b.Length; j++)
        {
            row[j] = j;
        }

        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                var above = row[j];
                row[j] = Math.Min(Math.Min(above, row[j - 1]) + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
                diagonal = above;
            }
        }

        return row[b.Length];
    }
}
