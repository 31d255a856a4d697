using System.Collections.Concurrent;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Decode;

/// <summary>
/// The engine over a paged cache. A step admits what fits, reads at most P rows of prompts, then writes one token for every sequence whose prompt is
/// read: a long prompt does not stall the others. Pages full of prompt tokens are shared between prompts that begin alike. When pages run out the newest
/// sequence is put back to the front of the queue; its prompt is read again and its tokens are fed again one by one, so that it goes on with the
/// same bits.
/// </summary>
/// <typeparam name="T">storage of the model</typeparam>
public sealed class PagedEngine<T> : DecodeEngine
    where T : unmanaged
{
    private const int CpuPromptRows = 128, CudaPromptRows = 1024;

    private readonly ComputeStream _stream;
    private readonly Qwen2<T> _model;
    private readonly Tokenizer? _tokenizer;
    private readonly DecodeEngineOptions _options;
    private readonly IDisposable? _owned;
    private readonly PagedKvCache<T> _cache;
    private readonly PassBuffers<T> _buffers;
    private readonly PassRows _rows;
    private readonly PagePool _pool;
    private readonly int _pagesPerSequence, _promptRows;
    private readonly ConcurrentQueue<DecodeRequest> _submitted = new();
    private readonly LinkedList<PagedSequence> _waiting = new();
    private readonly List<PagedSequence> _active = [];                        // in order of admission
    private readonly List<PagedSequence> _read = [];                          // those of a prompt pass
    private readonly List<PagedSequence> _asked = [];                         // one for each row whose logits the pass gives
    private readonly Sampler<T> _sampler;
    private readonly (Sampling Sampling, int Counter)[] _rules;
    private readonly int[] _next;
    private int _shownWaiting, _shownActive, _shownUsed;
    private long _promptTokens, _cachedTokens, _newTokens, _preempted;

    /// <summary>Allocates cache and buffers.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="model">its weights must stay as they are: prompts stay in the cache</param>
    /// <param name="tokenizer">for text and stop strings; null gives tokens only</param>
    /// <param name="options">sizes</param>
    /// <param name="owned">freed with the engine; null for none</param>
    public PagedEngine(ComputeStream stream, Qwen2<T> model, Tokenizer? tokenizer, DecodeEngineOptions options, IDisposable? owned = null)
    {
        (_stream, _model, _tokenizer, _options, _owned) = (stream, model, tokenizer, options, owned);
        Capacity = Math.Min(options.Capacity, model.Config.MaxPositionEmbeddings);
        _pagesPerSequence = (Capacity + options.PageTokens - 1) / options.PageTokens;
        var pages = options.CacheTokens > 0
            ? (options.CacheTokens + options.PageTokens - 1) / options.PageTokens
            : checked(options.Slots * _pagesPerSequence);
        _promptRows = options.PromptRows > 0 ? options.PromptRows : stream is CpuStream ? CpuPromptRows : CudaPromptRows;
        _pool = new PagePool(pages + 1, options.PageTokens);
        _cache = new PagedKvCache<T>(model.Config, pages + 1, options.PageTokens, stream);
        _buffers = new PassBuffers<T>(model.Config, _promptRows, options.Slots, Capacity, _pagesPerSequence, stream);
        _rows = new PassRows(Math.Max(_promptRows, options.Slots), options.Slots, _pagesPerSequence, options.PageTokens);
        _sampler = new Sampler<T>(stream, options.Slots);
        (_rules, _next) = (new (Sampling, int)[options.Slots], new int[options.Slots]);
    }

    /// <inheritdoc/>
    public override int Capacity { get; }

    /// <inheritdoc/>
    public override DecodeStats Stats => new(
        _submitted.Count + Volatile.Read(ref _shownWaiting), Volatile.Read(ref _shownActive), Volatile.Read(ref _shownUsed), _pool.Pages,
        Volatile.Read(ref _promptTokens), Volatile.Read(ref _cachedTokens), Volatile.Read(ref _newTokens), Volatile.Read(ref _preempted));

    /// <inheritdoc/>
    public override void Submit(DecodeRequest request)
    {
        var prompt = request.Prompt;
        if (prompt.Length == 0 || prompt.Length >= Capacity)
        {
            throw new InvalidInputException($"the prompt has {prompt.Length} tokens; it needs at least 1 and fewer than the context's {Capacity}");
        }

        if (Array.FindIndex(prompt, id => id < 0 || id >= _model.Config.VocabSize) is var wrong and >= 0)
        {
            throw new InvalidInputException(
                $"the prompt holds id {prompt[wrong]}, the model has {_model.Config.VocabSize} vocabulary rows: tokenizer and model do not belong together");
        }

        var longest = (int)Math.Min((long)prompt.Length + request.Options.MaxNewTokens, Capacity);
        if (PagesOf(longest) > _pool.Pages)
        {
            throw new InvalidInputException(
                $"the prompt and its answer may take {longest} tokens, the cache holds {_pool.Pages * _options.PageTokens}: ask for fewer new tokens, or make the cache larger");
        }

        _submitted.Enqueue(request);
    }

    /// <inheritdoc/>
    public override bool Step()
    {
        while (_submitted.TryDequeue(out var request))
        {
            _waiting.AddLast(new PagedSequence(request, _tokenizer, _pagesPerSequence));
        }

        Cancel();
        Admit();
        ReadPrompts();
        WriteTokens();
        Volatile.Write(ref _shownWaiting, _waiting.Count);
        Volatile.Write(ref _shownActive, _active.Count);
        Volatile.Write(ref _shownUsed, _pool.Pages - _pool.Free);
        return _active.Count > 0 || _waiting.Count > 0 || !_submitted.IsEmpty;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _cache.Dispose();
            _buffers.Dispose();
            _sampler.Dispose();
            _owned?.Dispose();
        }
    }

    private int PagesOf(int tokens) => (tokens + _options.PageTokens - 1) / _options.PageTokens;

    private void Cancel()
    {
        for (var node = _waiting.First; node is not null;)
        {
            var (sequence, next) = (node.Value, node.Next);
            if (sequence.Request.Cancellation.IsCancellationRequested)
            {
                _waiting.Remove(node);
                sequence.End(FinishReason.Cancelled);
                sequence.Tell();
            }

            node = next;
        }

        for (var i = _active.Count - 1; i >= 0; i--)
        {
            if (_active[i].Request.Cancellation.IsCancellationRequested)
            {
                _active[i].End(FinishReason.Cancelled);
                Leave(_active[i]);
            }
        }
    }

    /// <summary>
    /// In order of arrival, as long as there are slots and pages: for the whole prompt, and for what a sequence that was put back has written, so that
    /// it does not lose its pages again while it catches up.
    /// </summary>
    private void Admit()
    {
        while (_active.Count < _options.Slots && _waiting.First is { } first)
        {
            var sequence = first.Value;
            if (_options.SharePrefixes)
            {
                sequence.TakePrefix(_pool);
            }

            if (ComesLater(sequence) || !sequence.TakePages(_pool, PagesOf(sequence.Written)))
            {
                sequence.Release(_pool);
                return;
            }

            _waiting.RemoveFirst();
            _active.Add(sequence);
            if (sequence.Tokens.Count == 0)
            {
                sequence.Shared = sequence.Length;
                Volatile.Write(ref _promptTokens, _promptTokens + sequence.Prompt.Length);
                Volatile.Write(ref _cachedTokens, _cachedTokens + sequence.Length);
            }
        }
    }

    /// <summary>Whether a prompt that is being read will fill more pages that this one can share.</summary>
    private bool ComesLater(PagedSequence sequence)
    {
        var prompt = sequence.Prompt.AsSpan(0, sequence.Prompt.Length - 1);
        foreach (var other in _active)
        {
            if (_options.SharePrefixes && other.InPrompt && prompt.CommonPrefixLength(other.Prompt) / _options.PageTokens > sequence.PageCount)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>One pass over as many rows of prompts as it has, the oldest sequence first.</summary>
    private void ReadPrompts()
    {
        Begin();
        _read.Clear();
        foreach (var sequence in _active)
        {
            var count = Math.Min(sequence.Prompt.Length - sequence.Length, _promptRows - _rows.Count);
            if (count > 0)
            {
                _read.Add(sequence);
                Add(sequence, sequence.Prompt.AsSpan(sequence.Length, count));
            }
        }

        if (_rows.Count == 0)
        {
            return;
        }

        _model.Pass(_stream, _buffers, _cache, _rows, prompt: true);
        foreach (var sequence in _read)
        {
            if (_options.SharePrefixes)
            {
                _pool.Publish(sequence.Prompt.AsSpan(0, sequence.Length), sequence.Pages);
            }
        }

        Accept();
    }

    /// <summary>One pass with the next token of every sequence whose prompt is read.</summary>
    private void WriteTokens()
    {
        for (var i = 0; i < _active.Count; i++)
        {
            while (i < _active.Count && !_active[i].InPrompt && !_active[i].TakePages(_pool, PagesOf(_active[i].Length + 1)))
            {
                PutBack(_active[^1]);                                         // the newest goes first; it may be this one
            }
        }

        Begin();
        foreach (var sequence in _active)
        {
            if (!sequence.InPrompt)
            {
                Add(sequence, [sequence.TokenAt(sequence.Length)]);
            }
        }

        if (_rows.Count > 0)
        {
            _model.Pass(_stream, _buffers, _cache, _rows, prompt: false);
            Accept();
        }
    }

    private void Begin()
    {
        _rows.Clear();
        _asked.Clear();
    }

    private void Add(PagedSequence sequence, ReadOnlySpan<int> tokens)
    {
        var from = sequence.Length;
        sequence.Length += tokens.Length;
        _rows.Add(tokens, from, sequence.Pages, sequence.WantsToken);
        if (sequence.WantsToken)
        {
            _asked.Add(sequence);
        }
    }

    private void PutBack(PagedSequence sequence)
    {
        _active.Remove(sequence);
        sequence.Release(_pool);
        _waiting.AddFirst(sequence);
        Volatile.Write(ref _preempted, _preempted + 1);
    }

    /// <summary>The next token of every sequence whose row gave logits, in their order.</summary>
    private void Accept()
    {
        if (_asked.Count == 0)
        {
            return;
        }

        var count = _asked.Count;
        var greedy = true;
        for (var i = 0; i < count; i++)
        {
            _rules[i] = (_asked[i].Request.Sampling, _asked[i].Tokens.Count);
            greedy &= _asked[i].Request.Sampling.Temperature == 0;
        }

        if (greedy)
        {
            TensorCopy.Download(_stream, _buffers.Next.Prefix(count), _next.AsSpan(0, count));
        }
        else
        {
            _sampler.Draw(_stream, _buffers.Logits.Rows(0, count), _rules.AsSpan(0, count), _next.AsSpan(0, count));
        }

        Volatile.Write(ref _newTokens, _newTokens + count);
        for (var i = 0; i < count; i++)
        {
            _asked[i].Accept(_next[i], Capacity);
            if (_asked[i].Finish is null)
            {
                _asked[i].Tell();
            }
            else
            {
                Leave(_asked[i]);
            }
        }
    }

    private void Leave(PagedSequence sequence)
    {
        _active.Remove(sequence);
        sequence.Release(_pool);
        sequence.Tell();
    }
}
