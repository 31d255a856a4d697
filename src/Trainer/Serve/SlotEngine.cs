using System.Collections.Concurrent;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Serve;

/// <summary>An engine with one slot of the cache per sequence and nothing shared between them.</summary>
/// <remarks>
/// A prompt is read alone, so its bits are its own. With more than eight sequences under way the matrix library computes their products, and
/// the last bits of a row then depend on how many there are: a token whose lead is within rounding can differ.
/// </remarks>
/// <typeparam name="T">storage of the model: float or BFloat16</typeparam>
internal sealed class SlotEngine<T> : DecodeEngine
    where T : unmanaged
{
    private readonly ComputeStream _stream;
    private readonly ParameterSet<T> _weights;
    private readonly Qwen2<T> _model;
    private readonly Tokenizer _tokenizer;
    private readonly KvCache<T> _cache;
    private readonly DecodeActivations<T> _activations;
    private readonly ConcurrentQueue<DecodeRequest> _waiting = new();
    private readonly List<Sequence> _active = [];
    private readonly Stack<int> _free;
    private readonly Sampler<T> _sampler;
    private volatile int _running;
    private long _promptTokens, _newTokens;

    /// <summary>Loads the weights and allocates cache and buffers.</summary>
    public SlotEngine(ComputeStream stream, string directory, Tokenizer tokenizer, int slots, int capacity)
    {
        (_stream, _tokenizer) = (stream, tokenizer);
        _weights = HfWeights.Open<T>(directory, stream);
        _model = new Qwen2<T>(_weights);
        var config = _model.Config;
        capacity = Math.Min(capacity, config.MaxPositionEmbeddings);
        _cache = new KvCache<T>(config, slots, capacity, stream);
        _activations = new DecodeActivations<T>(config, capacity, slots, capacity, stream);
        _free = new Stack<int>(Enumerable.Range(0, slots).Reverse());
        _sampler = new Sampler<T>(stream, slots);
    }

    /// <inheritdoc/>
    public override int Capacity => _cache.Capacity;

    /// <inheritdoc/>
    public override DecodeStats Stats => new(
        _waiting.Count, _running, _running, _cache.Slots, Volatile.Read(ref _promptTokens), 0, Volatile.Read(ref _newTokens), 0);

    /// <inheritdoc/>
    public override void Submit(DecodeRequest request)
    {
        if (request.Prompt.Length == 0 || request.Prompt.Length >= Capacity)
        {
            throw new InvalidInputException($"the prompt has {request.Prompt.Length} tokens; it needs at least 1 and fewer than the context's {Capacity}");
        }

        if (Array.FindIndex(request.Prompt, id => id < 0 || id >= _model.Config.VocabSize) is var wrong and >= 0)
        {
            throw new InvalidInputException($"the prompt holds id {request.Prompt[wrong]}; the model has {_model.Config.VocabSize} vocabulary rows");
        }

        _waiting.Enqueue(request);
    }

    /// <inheritdoc/>
    public override bool Step()
    {
        for (var i = _active.Count - 1; i >= 0; i--)
        {
            if (_active[i].Request.Cancellation.IsCancellationRequested)
            {
                _active[i].End(FinishReason.Cancelled);
                Leave(_active[i]);
            }
        }

        if (_free.Count > 0 && _waiting.TryDequeue(out var next))
        {
            Admit(next);
            return true;
        }

        if (_active.Count > 0)
        {
            Advance();
        }

        return _active.Count > 0 || !_waiting.IsEmpty;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _cache.Dispose();
            _activations.Dispose();
            _sampler.Dispose();
            _weights.Dispose();
        }
    }

    private void Admit(DecodeRequest request)
    {
        if (request.Cancellation.IsCancellationRequested)
        {
            request.Updated?.Invoke(new DecodeUpdate("", 0, new Completion([], "", FinishReason.Cancelled)));
            return;
        }

        var sequence = new Sequence(request, _free.Pop(), _tokenizer);
        _model.Prefill(_stream, _activations, _cache, request.Prompt, [request.Prompt.Length], [sequence.Slot]);
        Volatile.Write(ref _promptTokens, _promptTokens + request.Prompt.Length);
        _active.Add(sequence);
        _running = _active.Count;
        Accept([sequence]);
    }

    private void Advance()
    {
        Span<int> tokens = stackalloc int[_active.Count], positions = stackalloc int[_active.Count], slots = stackalloc int[_active.Count];
        for (var i = 0; i < _active.Count; i++)
        {
            (tokens[i], positions[i], slots[i]) = (_active[i].Tokens[^1], _active[i].Length, _active[i].Slot);
            _active[i].Length++;
        }

        _model.Decode(_stream, _activations, _cache, tokens, positions, slots);
        Accept([.. _active]);        // a copy: sequences leave meanwhile
    }

    private void Accept(List<Sequence> sequences)
    {
        var rows = sequences.Count;
        var next = new int[rows];
        if (sequences.TrueForAll(s => s.Request.Sampling.Temperature == 0))
        {
            TensorCopy.Download(_stream, _activations.Next.Prefix(rows), next);
        }
        else
        {
            _sampler.Draw(_stream, _activations.Logits.Rows(0, rows), [.. sequences.Select(s => (s.Request.Sampling, s.Tokens.Count))], next);
        }

        Volatile.Write(ref _newTokens, _newTokens + rows);
        for (var i = 0; i < rows; i++)
        {
            sequences[i].Accept(next[i], Capacity);
            if (sequences[i].Finish is null)
            {
                sequences[i].Tell();
            }
            else
            {
                Leave(sequences[i]);
            }
        }
    }

    private void Leave(Sequence sequence)
    {
        _active.Remove(sequence);
        _running = _active.Count;
        _free.Push(sequence.Slot);
        sequence.Tell();
    }

    private sealed class Sequence(DecodeRequest request, int slot, Tokenizer tokenizer)
        : DecodeSequence(request.Options, request.Prompt.Length, tokenizer)
    {
        public int Slot => slot;

        public DecodeRequest Request => request;

        /// <summary>Tells of new text, and at the end of the completion.</summary>
        public void Tell() => request.Updated?.Invoke(new DecodeUpdate(
            Take(), Tokens.Count, Finish is { } reason ? new Completion([.. Tokens], Text, reason) : null));
    }
}
