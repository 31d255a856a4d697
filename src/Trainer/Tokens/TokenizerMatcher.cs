using System.Buffers;

namespace Z1Coder.Trainer.Tokens;

/// <summary>Finds added tokens in text, leftmost first and of those the longest: a trie entered at characters that begin a token.</summary>
internal sealed class TokenizerMatcher
{
    private readonly SearchValues<char> _firsts;
    private readonly Dictionary<long, int> _edges = [];       // node << 16 | character to node
    private readonly List<int> _idAt = [-1];                  // the token that ends at a node, or -1

    /// <summary>A matcher for contents with their ids.</summary>
    public TokenizerMatcher(IEnumerable<(string Content, int Id)> tokens)
    {
        var firsts = new HashSet<char>();
        foreach (var (content, id) in tokens)
        {
            firsts.Add(content[0]);
            var node = 0;
            foreach (var c in content)
            {
                var edge = ((long)node << 16) | c;
                if (!_edges.TryGetValue(edge, out var child))
                {
                    child = _idAt.Count;
                    _idAt.Add(-1);
                    _edges.Add(edge, child);
                }

                node = child;
            }

            _idAt[node] = id;
        }

        _firsts = SearchValues.Create(firsts.ToArray());
        IsEmpty = firsts.Count == 0;
    }

    /// <summary>True when nothing can be found.</summary>
    public bool IsEmpty { get; }

    /// <summary>The first match at or after <paramref name="from"/>; false when there is none.</summary>
    public bool Find(ReadOnlySpan<char> text, int from, out int start, out int end, out int id)
    {
        for (start = from; !IsEmpty && start < text.Length; start++)
        {
            var offset = text[start..].IndexOfAny(_firsts);
            if (offset < 0)
            {
                break;
            }

            start += offset;
            (end, id) = (0, -1);
            var node = 0;
            for (var i = start; i < text.Length && _edges.TryGetValue(((long)node << 16) | text[i], out node); i++)
            {
                if (_idAt[node] >= 0)
                {
                    (end, id) = (i + 1, _idAt[node]);
                }
            }

            if (id >= 0)
            {
                return true;
            }
        }

        (start, end, id) = (text.Length, text.Length, -1);
        return false;
    }
}
