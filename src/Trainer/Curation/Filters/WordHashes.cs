using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation.Filters;

/// <summary>
/// A text as the hashes of its words: runs of letters, digits and underscores, in lower case. Punctuation and layout do not count, so a
/// program that was only re-indented, or a sentence that was only re-punctuated, has the same words.
/// </summary>
internal static class WordHashes
{
    private const ulong FnvOffset = 14695981039346656037, FnvPrime = 1099511628211;

    /// <summary>Replaces the content of <paramref name="words"/>; where a word stands is added to <paramref name="at"/> when
    /// given.</summary>
    public static void Of(ReadOnlySpan<char> text, List<ulong> words, List<Range>? at = null)
    {
        words.Clear();
        at?.Clear();
        for (var i = 0; i < text.Length;)
        {
            if (!IsWord(text[i]))
            {
                i++;
                continue;
            }

            var start = i;
            var hash = FnvOffset;
            for (; i < text.Length && IsWord(text[i]); i++)
            {
                hash = (hash ^ char.ToLowerInvariant(text[i])) * FnvPrime;
            }

            words.Add(SplitMix64.Mix(hash));
            at?.Add(start..i);
        }
    }

    /// <summary>Hashes of all runs of <paramref name="length"/> words, in order: Σ w·B^(length−1−i) mod 2^64, rolled from one run to the
    /// next.</summary>
    public static IEnumerable<ulong> Runs(IReadOnlyList<ulong> words, int length)
    {
        const ulong B = 0x9E3779B97F4A7C15;
        ulong hash = 0, leaving = 1;
        for (var i = 0; i < words.Count; i++)
        {
            if (i >= length)
            {
                hash -= words[i - length] * leaving;
            }
            else if (i > 0)
            {
                leaving *= B;
            }

            hash = (hash * B) + words[i];
            if (i >= length - 1)
            {
                yield return hash;
            }
        }
    }

    private static bool IsWord(char c) => char.IsLetterOrDigit(c) || c == '_';
}
