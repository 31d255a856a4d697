using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation.Filters;

/// <summary>
/// MinHash (Broder 1997): for each of 128 hash functions the least value over a text's shingles, runs of five words. Two texts agree in a
/// value with the probability of their Jaccard similarity, |A ∩ B| / |A ∪ B| over the shingles; the standard error of the estimate is
/// √(J(1−J)/128), at most 0.045.
/// </summary>
public static class MinHash
{
    /// <summary>Values in a signature.</summary>
    public const int Size = 128;

    private const int ShingleWords = 5;
    private static readonly ulong[] s_factors = Constants(1), s_terms = Constants(1 + Size);

    /// <summary>The signature of a text; a text of fewer than five words is one shingle.</summary>
    public static uint[] Of(ReadOnlySpan<char> text)
    {
        var words = new List<ulong>();
        WordHashes.Of(text, words);
        var signature = new uint[Size];
        Array.Fill(signature, uint.MaxValue);
        foreach (var run in WordHashes.Runs(words, Math.Clamp(words.Count, 1, ShingleWords)))
        {
            var shingle = SplitMix64.Mix(run);
            for (var i = 0; i < Size; i++)
            {
                signature[i] = Math.Min(signature[i], (uint)(((shingle * s_factors[i]) + s_terms[i]) >> 32));
            }
        }

        return signature;
    }

    /// <summary>Share of equal values: the estimate of the Jaccard similarity.</summary>
    public static double Similarity(ReadOnlySpan<uint> a, ReadOnlySpan<uint> b)
    {
        var equal = 0;
        for (var i = 0; i < Size; i++)
        {
            equal += a[i] == b[i] ? 1 : 0;
        }

        return equal / (double)Size;
    }

    private static ulong[] Constants(int from) =>
        [.. Enumerable.Range(from, Size).Select(i => SplitMix64.Mix((ulong)i * SplitMix64.Step) | 1)];
}
