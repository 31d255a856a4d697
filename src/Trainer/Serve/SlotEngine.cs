using System.Collections.Concurrent;
using System.Text;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Serve;

/// <summary>An engine with one slot of the cache per sequence and nothing shared between them; tokens are drawn on the host.</summary>
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
    private readonly T[] _row;
    private readonly float[] _logits;
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
        (_row, _logits) = (new T[config.VocabSize], new float[config.VocabSize]);
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
                Leave(i, FinishReason.Cancelled);
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
        Accept([.. _active]);
    }

    private void Accept(Sequence[] sequences)
    {
        var greedy = new int[sequences.Length];
        _activations.Next.Prefix(sequences.Length).CopyTo(greedy);
        for (var i = 0; i < sequences.Length; i++)
        {
            var token = sequences[i].Request.Sampling.Temperature == 0 ? greedy[i] : Draw(i, sequences[i]);
            var finish = sequences[i].Accept(token, Capacity);
            Volatile.Write(ref _newTokens, _newTokens + 1);
            if (finish is { } reason)
            {
                Leave(_active.IndexOf(sequences[i]), reason);
            }
            else
            {
                sequences[i].Request.Updated?.Invoke(new DecodeUpdate(sequences[i].Take(), sequences[i].Tokens.Count, null));
            }
        }
    }

    private int Draw(int row, Sequence sequence)
    {
        _activations.Logits.Rows(row, 1).CopyTo(_row);
        for (var i = 0; i < _row.Length; i++)
        {
            _logits[i] = _row[i] is BFloat16 half ? (float)half : (float)(object)_row[i];
        }

        return HostSampler.Draw(_logits, sequence.Request.Sampling, sequence.Tokens.Count);
    }

    private void Leave(int index, FinishReason reason)
    {
        var sequence = _active[index];
        _active.RemoveAt(index);
        _running = _active.Count;
        _free.Push(sequence.Slot);
        var text = sequence.End();
        sequence.Request.Updated?.Invoke(new DecodeUpdate(
            text, sequence.Tokens.Count, new Completion([.. sequence.Tokens], sequence.Text, reason)));
    }

    private sealed class Sequence(DecodeRequest request, int slot, Tokenizer tokenizer)
    {
        private readonly TokenStream _decoder = new(tokenizer);
        private readonly StringBuilder _text = new();
        private int _told;
        private bool _cut;

        public DecodeRequest Request => request;

        public int Slot => slot;

        public int Length { get; set; } = request.Prompt.Length;

        public List<int> Tokens { get; } = [];

        public string Text => _text.ToString();

        public FinishReason? Accept(int token, int capacity)
        {
            if (request.Options.EndTokens.Contains(token))
            {
                return FinishReason.EndToken;
            }

            Tokens.Add(token);
            var before = _text.Length;
            _text.Append(_decoder.Append(token));
            var ends = Tokens.Count >= request.Options.MaxNewTokens || Length + 1 >= capacity;
            if (ends)
            {
                _text.Append(_decoder.Flush());
            }

            return Cut(before) ? FinishReason.StopString : ends ? FinishReason.Length : null;
        }

        /// <summary>New text that no stop string can take back.</summary>
        public string Take()
        {
            var all = _text.ToString();
            var safe = all.Length;
            foreach (var stop in request.Options.StopStrings)
            {
                for (var held = Math.Min(stop.Length - 1, all.Length); held > 0; held--)
                {
                    if (all.AsSpan(all.Length - held).SequenceEqual(stop.AsSpan(0, held)))
                    {
                        safe = Math.Min(safe, all.Length - held);
                        break;
                    }
                }
            }

            var text = safe > _told ? all[_told..safe] : "";
            _told = Math.Max(_told, safe);
            return text;
        }

        public string End()
        {
            if (!_cut)
            {
                _text.Append(_decoder.Flush());
            }

            return _text.ToString(_told, _text.Length - _told);
        }

        private bool Cut(int before)
        {
            var first = int.MaxValue;
            foreach (var stop in request.Options.StopStrings)
            {
                var from = Math.Max(0, before - stop.Length + 1);
                var at = _text.ToString(from, _text.Length - from).IndexOf(stop, StringComparison.Ordinal);
                first = at >= 0 ? Math.Min(first, from + at) : first;
            }

            if (first < int.MaxValue)
            {
                _text.Length = first;
                _cut = true;
            }

            return _cut;
        }
    }
}
