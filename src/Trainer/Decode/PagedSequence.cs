using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Decode;

/// <summary>One request on its way through <see cref="PagedEngine{T}"/>. One that was put back keeps its tokens, and they are fed again.</summary>
internal sealed class PagedSequence(DecodeRequest request, Tokenizer? tokenizer, int pages) : DecodeSequence(request.Options, 0, tokenizer)
{
    private readonly int[] _pages = new int[pages];
    private int _told;

    public DecodeRequest Request => request;

    public int[] Prompt => request.Prompt;

    /// <summary>Pages held, in order of position.</summary>
    public ReadOnlySpan<int> Pages => _pages.AsSpan(0, PageCount);

    /// <summary>How many of them there are.</summary>
    public int PageCount { get; private set; }

    /// <summary>Tokens of the prompt that the cache held when it was first admitted.</summary>
    public int Shared { get; set; }

    public bool InPrompt => Length < Prompt.Length;

    /// <summary>Prompt and answer so far.</summary>
    public int Written => Prompt.Length + Tokens.Count;

    /// <summary>Whether the logits after the cached tokens are those of a token not yet written.</summary>
    public bool WantsToken => Length == Written;

    /// <summary>The token at a position: prompt, then answer.</summary>
    public int TokenAt(int position) => position < Prompt.Length ? Prompt[position] : Tokens[position - Prompt.Length];

    /// <summary>Takes the pages that the pool holds for the prompt already. The last token is always computed: its logits are wanted.</summary>
    public void TakePrefix(PagePool pool)
    {
        PageCount = pool.HoldPrefix(Prompt.AsSpan(0, Prompt.Length - 1), _pages);
        Length = PageCount * pool.PageTokens;
    }

    /// <summary>Takes pages until there are <paramref name="count"/>; false, and none taken, when the pool has too few: what a page held before can no
    /// longer be found by its tokens.</summary>
    public bool TakePages(PagePool pool, int count)
    {
        if (count - PageCount > pool.Free)
        {
            return false;
        }

        while (PageCount < count && pool.TryTake(out var page))
        {
            _pages[PageCount++] = page;
        }

        return true;
    }

    /// <summary>Lets go of every page: what was computed is no longer there.</summary>
    public void Release(PagePool pool)
    {
        pool.Release(Pages);
        (PageCount, Length) = (0, 0);
    }

    /// <summary>Tells of new text, and at the end of the completion.</summary>
    public void Tell()
    {
        if (request.Updated is { } updated && (Finish is not null || Tokens.Count > _told))
        {
            _told = Tokens.Count;
            updated(new DecodeUpdate(Take(), _told, Finish is { } reason ? new Completion([.. Tokens], Text, reason, Shared) : null));
        }
    }
}
