using System.Runtime.InteropServices;
using System.Text;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// Learns byte-pair merges (Sennrich, Haddow, Birch 2016) over words cut by the Qwen2 rule: the most frequent pair is merged, of equals
/// the one with the lower left id, then the lower right id. The result depends on nothing but the texts' words and their counts.
/// </summary>
public static class TokenizerTrainer
{
    private const int SeldomestPair = 2;                      // a pair seen once saves nothing

    /// <summary>Trains a tokenizer with NFC and the Qwen2 rule.</summary>
    /// <param name="texts">the corpus; special tokens in it are ordinary text</param>
    /// <param name="vocabularySize">tokens without the special ones, the 256 bytes included; fewer when no pair occurs twice</param>
    /// <param name="specialTokens">get the ids after the vocabulary, in order</param>
    public static Tokenizer Train(IEnumerable<string> texts, int vocabularySize, IReadOnlyList<string> specialTokens)
    {
        ArgumentNullException.ThrowIfNull(texts);
        ArgumentNullException.ThrowIfNull(specialTokens);
        Check(vocabularySize);

        var vocabulary = new Dictionary<string, int>(StringComparer.Ordinal);
        var byteIds = new int[256];
        foreach (var b in BpeAlphabet.InOrder())
        {
            byteIds[b] = vocabulary.Count;
            vocabulary.Add(BpeAlphabet.ToChar(b).ToString(), vocabulary.Count);
        }

        var merges = new Corpus(CountWords(texts), byteIds).Merge(vocabularySize, vocabulary);
        var added = new List<TokenizerAddedToken>();
        foreach (var token in specialTokens)
        {
            if (string.IsNullOrEmpty(token) || added.Any(a => a.Content == token) || vocabulary.ContainsKey(token))
            {
                throw new InvalidInputException($"The special token '{token}' is empty, listed twice, or a token already; choose another.");
            }

            added.Add(new TokenizerAddedToken(vocabulary.Count + added.Count, token, Special: true));
        }

        return new Tokenizer(new TokenizerParts(vocabulary, merges, added, PreTokenizerRule.Qwen2, Compose: true));
    }

    /// <summary>Throws where a byte-level vocabulary cannot have this size.</summary>
    internal static void Check(int vocabularySize)
    {
        if (vocabularySize is < 256 or > Tokenizer.MaximumId / 2)
        {
            throw new InvalidInputException(
                $"The vocabulary size is {vocabularySize}; a byte-level vocabulary has 256 to {Tokenizer.MaximumId / 2} tokens.");
        }
    }

    private static Dictionary<string, long> CountWords(IEnumerable<string> texts)
    {
        var counts = new Dictionary<string, long>(StringComparer.Ordinal);
        var bySpan = counts.GetAlternateLookup<ReadOnlySpan<char>>();
        var normalization = new TokenizerNormalization();
        foreach (var source in texts)
        {
            var text = TokenizerNormalization.IsCertainlyComposed(source) ? source : normalization.Compose(source);
            for (var start = 0; start < text.Length;)
            {
                var end = PreTokenizer.EndQwen2(text, start);
                CollectionsMarshal.GetValueRefOrAddDefault(bySpan, text[start..end], out _)++;
                start = end;
            }
        }

        return counts;
    }

    /// <summary>The distinct words as id sequences, with the count of every pair and the words it occurs in.</summary>
    private sealed class Corpus
    {
        private readonly int[][] _words;
        private readonly int[] _lengths;
        private readonly long[] _counts;
        private readonly Dictionary<(int Left, int Right), long> _pairs = [];
        private readonly Dictionary<(int Left, int Right), List<int>> _where = [];
        private readonly PriorityQueue<(int Left, int Right, long Count), (long NegativeCount, int Left, int Right)> _queue = new();

        public Corpus(Dictionary<string, long> words, int[] byteIds)
        {
            // ordered by text, so that nothing depends on the order of arrival
            var ordered = words.Where(w => w.Key.Length > 1 || w.Key[0] >= 0x80).OrderBy(w => w.Key, StringComparer.Ordinal).ToArray();
            _words = new int[ordered.Length][];
            _lengths = new int[ordered.Length];
            _counts = new long[ordered.Length];
            for (var w = 0; w < ordered.Length; w++)
            {
                _words[w] = Encoding.UTF8.GetBytes(ordered[w].Key).Select(b => byteIds[b]).ToArray();
                _lengths[w] = _words[w].Length;
                _counts[w] = ordered[w].Value;
                for (var i = 0; i + 1 < _lengths[w]; i++)
                {
                    Change((_words[w][i], _words[w][i + 1]), _counts[w], w);
                }
            }

            foreach (var pair in _pairs.Keys)
            {
                Enqueue(pair);
            }
        }

        /// <summary>Merges until the vocabulary has <paramref name="size"/> tokens or no pair is left; adds the tokens.</summary>
        public List<(int Left, int Right, int Product)> Merge(int size, Dictionary<string, int> vocabulary)
        {
            var merges = new List<(int, int, int)>();
            var tokens = new List<string>(vocabulary.OrderBy(entry => entry.Value).Select(entry => entry.Key));
            var touched = new HashSet<(int, int)>();
            while (vocabulary.Count < size && _queue.TryDequeue(out var top, out _))
            {
                var pair = (top.Left, top.Right);
                var count = _pairs[pair];
                if (count != top.Count)
                {
                    Enqueue(pair);                            // counts only fall between entries; the new one takes its place
                    continue;
                }

                var token = tokens[top.Left] + tokens[top.Right];
                var product = vocabulary.Count;
                if (!vocabulary.TryAdd(token, product))
                {
                    continue;                                 // one token, one merge: a pair merged once can then never come back
                }

                tokens.Add(token);
                merges.Add((top.Left, top.Right, product));
                touched.Clear();
                Apply(pair, product, touched);
                _pairs[pair] = 0;
                foreach (var changed in touched)
                {
                    Enqueue(changed);
                }
            }

            return merges;
        }

        private void Apply((int Left, int Right) pair, int product, HashSet<(int, int)> touched)
        {
            foreach (var w in _where[pair])
            {
                var (word, count, length) = (_words[w], _counts[w], _lengths[w]);
                var kept = 0;
                for (var i = 0; i < length; kept++)
                {
                    if (i + 1 < length && word[i] == pair.Left && word[i + 1] == pair.Right)
                    {
                        if (kept > 0)
                        {
                            Change((word[kept - 1], pair.Left), -count, w);
                            Change((word[kept - 1], product), count, w);
                            touched.Add((word[kept - 1], product));
                        }

                        if (i + 2 < length)
                        {
                            Change((pair.Right, word[i + 2]), -count, w);
                            Change((product, word[i + 2]), count, w);
                            touched.Add((product, word[i + 2]));
                        }

                        word[kept] = product;
                        i += 2;
                    }
                    else
                    {
                        word[kept] = word[i++];
                    }
                }

                _lengths[w] = kept;
            }

            _where.Remove(pair);
        }

        private void Change((int Left, int Right) pair, long by, int word)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(_pairs, pair, out _) += by;
            if (by > 0)
            {
                ref var words = ref CollectionsMarshal.GetValueRefOrAddDefault(_where, pair, out _);
                words ??= [];
                if (words.Count == 0 || words[^1] != word)
                {
                    words.Add(word);
                }
            }
        }

        private void Enqueue((int Left, int Right) pair)
        {
            if (_pairs[pair] is var count and >= SeldomestPair)
            {
                _queue.Enqueue((pair.Left, pair.Right, count), (-count, pair.Left, pair.Right));
            }
        }
    }
}
