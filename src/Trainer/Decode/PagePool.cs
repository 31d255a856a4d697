namespace Z1Coder.Trainer.Decode;

/// <summary>
/// Which pages of the cache are held, and by how many sequences. A page whose prompt tokens are published can be found again by a sequence
/// that starts with the same tokens (prefix sharing), also after its last holder let go, until the page is needed for something else.
/// </summary>
/// <remarks>Page 0 is never handed out: rows that only pad a pass write there. Not safe for several threads.</remarks>
public sealed class PagePool
{
    private readonly int[] _holders;
    private readonly int[] _tokens;
    private readonly long[] _serials;
    private readonly long[] _parents;
    private readonly ulong[] _hashes;
    private readonly LinkedListNode<int>[] _nodes;
    private readonly LinkedList<int> _free = new();
    private readonly Dictionary<ulong, int> _published = [];
    private long _lastSerial;

    /// <summary>A pool whose pages are all free.</summary>
    /// <param name="pages">pages of the cache, page 0 counted; at least 2</param>
    /// <param name="pageTokens">tokens of a page; at least 1</param>
    public PagePool(int pages, int pageTokens)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(pages, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(pageTokens, 1);
        PageTokens = pageTokens;
        Pages = pages - 1;
        _holders = new int[pages];
        _tokens = new int[pages * pageTokens];
        _serials = new long[pages];
        _parents = new long[pages];
        _hashes = new ulong[pages];
        _nodes = new LinkedListNode<int>[pages];
        for (var page = 1; page < pages; page++)
        {
            _nodes[page] = _free.AddLast(page);
        }
    }

    /// <summary>Tokens of a page.</summary>
    public int PageTokens { get; }

    /// <summary>Pages that can be handed out.</summary>
    public int Pages { get; }

    /// <summary>Pages that nobody holds; some may still be found by their tokens.</summary>
    public int Free => _free.Count;

    /// <summary>Hands out a page with one holder; false when none is free. What it held before can no longer be found.</summary>
    public bool TryTake(out int page)
    {
        page = 0;
        if (_free.First is not { } first)
        {
            return false;
        }

        page = first.Value;
        _free.Remove(first);
        Forget(page);
        _holders[page] = 1;
        return true;
    }

    /// <summary>One more holder of a page that was found; a free page leaves the free ones.</summary>
    private void Hold(int page)
    {
        if (_holders[page]++ == 0)
        {
            _free.Remove(_nodes[page]);
        }
    }

    /// <summary>Lets go of a sequence's pages, the last first, so that a prefix stays findable longer than what follows it.</summary>
    /// <exception cref="InvalidOperationException">A page has no holder.</exception>
    public void Release(ReadOnlySpan<int> pages)
    {
        for (var i = pages.Length - 1; i >= 0; i--)
        {
            var page = pages[i];
            if (page == 0 || _holders[page] == 0)
            {
                throw new InvalidOperationException($"page {page} has no holder");
            }

            if (--_holders[page] > 0)
            {
                continue;
            }

            // A page that cannot be found is of no use to anybody: it goes before all that can.
            if (_serials[page] == 0)
            {
                _free.AddFirst(_nodes[page]);
            }
            else
            {
                _free.AddLast(_nodes[page]);
            }
        }
    }

    /// <summary>Holds the longest published run of full pages that <paramref name="tokens"/> starts with; returns how many pages.</summary>
    /// <param name="tokens">the prompt, less what must be computed anyway</param>
    /// <param name="pages">where the pages go; at least tokens / PageTokens long</param>
    public int HoldPrefix(ReadOnlySpan<int> tokens, Span<int> pages)
    {
        var (found, parent, hash) = (0, 0L, 0UL);
        for (; (found + 1) * PageTokens <= tokens.Length; found++)
        {
            var part = tokens.Slice(found * PageTokens, PageTokens);
            hash = Hash(hash, part);
            if (!_published.TryGetValue(hash, out var page) || _parents[page] != parent || !part.SequenceEqual(TokensOf(page)))
            {
                break;
            }

            Hold(page);
            pages[found] = page;
            parent = _serials[page];
        }

        return found;
    }

    /// <summary>Lets the full pages of a prompt be found, once prefill has written them. Pages found already stay as they are.</summary>
    /// <param name="tokens">the tokens of <paramref name="pages"/> in order; a part page at the end is left out</param>
    /// <param name="pages">held by the caller</param>
    public void Publish(ReadOnlySpan<int> tokens, ReadOnlySpan<int> pages)
    {
        var (parent, hash) = (0L, 0UL);
        for (var i = 0; (i + 1) * PageTokens <= tokens.Length; i++)
        {
            var page = pages[i];
            var part = tokens.Slice(i * PageTokens, PageTokens);
            hash = Hash(hash, part);
            if (_serials[page] == 0)
            {
                // Another page of the same tokens, or of the same hash: the later one is found from here on.
                if (_published.TryGetValue(hash, out var other))
                {
                    Forget(other);
                }

                part.CopyTo(TokensOf(page));
                (_serials[page], _parents[page], _hashes[page]) = (++_lastSerial, parent, hash);
                _published[hash] = page;
            }

            parent = _serials[page];
        }
    }

    private void Forget(int page)
    {
        if (_serials[page] != 0)
        {
            _published.Remove(_hashes[page]);
            _serials[page] = 0;
        }
    }

    private Span<int> TokensOf(int page) => _tokens.AsSpan(page * PageTokens, PageTokens);

    // FNV-1a over tokens, chained. Only a way to find candidates: the tokens and the parent decide.
    private static ulong Hash(ulong parent, ReadOnlySpan<int> tokens)
    {
        var hash = parent ^ 14695981039346656037UL;
        foreach (var token in tokens)
        {
            hash = unchecked((hash ^ (uint)token) * 1099511628211UL);
        }

        return hash;
    }
}
