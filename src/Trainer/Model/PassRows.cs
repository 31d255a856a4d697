namespace Z1Coder.Trainer.Model;

/// <summary>
/// The rows of one pass over paged sequences, put together on the host: for each sequence a run of tokens at consecutive positions, and which
/// rows' logits are wanted. Used again and again; nothing is allocated after the first.
/// </summary>
/// <param name="rows">rows at most</param>
/// <param name="sequences">sequences at most</param>
/// <param name="pagesPerSequence">pages of one sequence at most</param>
/// <param name="pageTokens">tokens of a page</param>
public sealed class PassRows(int rows, int sequences, int pagesPerSequence, int pageTokens)
{
    private readonly int[] _tokens = new int[rows], _positions = new int[rows], _pages = new int[rows], _offsets = new int[rows];
    private readonly int[] _starts = new int[sequences + 1], _contexts = new int[sequences], _lastRows = new int[sequences];
    private readonly int[] _table = new int[sequences * pagesPerSequence];

    /// <summary>Rows so far.</summary>
    public int Count { get; private set; }

    /// <summary>Sequences so far.</summary>
    public int Sequences { get; private set; }

    /// <summary>Rows whose logits are wanted.</summary>
    public int Wanted { get; private set; }

    internal ReadOnlySpan<int> Tokens => _tokens.AsSpan(0, Count);

    internal ReadOnlySpan<int> Positions => _positions.AsSpan(0, Count);

    internal ReadOnlySpan<int> Pages => _pages.AsSpan(0, Count);

    internal ReadOnlySpan<int> Offsets => _offsets.AsSpan(0, Count);

    internal ReadOnlySpan<int> Starts => _starts.AsSpan(0, Sequences + 1);

    internal ReadOnlySpan<int> Contexts => _contexts.AsSpan(0, Sequences);

    internal ReadOnlySpan<int> LastRows => _lastRows.AsSpan(0, Wanted);

    internal ReadOnlySpan<int> Table => _table.AsSpan(0, Sequences * pagesPerSequence);

    /// <summary>Begins anew.</summary>
    public void Clear() => (Count, Sequences, Wanted) = (0, 0, 0);

    /// <summary>Adds the tokens of one sequence.</summary>
    /// <param name="tokens">[n], with those before them at most the rows</param>
    /// <param name="context">tokens of the sequence already in its pages: the position of the first</param>
    /// <param name="pages">the sequence's pages, those of the added tokens included</param>
    /// <param name="wanted">whether the logits after the last token are wanted</param>
    public void Add(ReadOnlySpan<int> tokens, int context, ReadOnlySpan<int> pages, bool wanted)
    {
        tokens.CopyTo(_tokens.AsSpan(Count));
        for (var i = 0; i < tokens.Length; i++)
        {
            var position = context + i;
            (_positions[Count + i], _pages[Count + i], _offsets[Count + i]) = (position, pages[position / pageTokens], position % pageTokens);
        }

        pages.CopyTo(_table.AsSpan(Sequences * pagesPerSequence, pagesPerSequence));
        Count += tokens.Length;
        _contexts[Sequences++] = context;
        _starts[Sequences] = Count;
        if (wanted)
        {
            _lastRows[Wanted++] = Count - 1;
        }
    }
}
