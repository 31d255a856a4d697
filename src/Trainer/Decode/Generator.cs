using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Decode;

/// <summary>
/// Greedy decoding with a KV cache over as many sequences at once as there are slots; a sequence that ends frees its slot for the next prompt.
/// </summary>
/// <typeparam name="T">storage of the model</typeparam>
public sealed class Generator<T> : IDisposable
    where T : unmanaged
{
    private const int PrefillTokens = 2048;

    private readonly ComputeStream _stream;
    private readonly Qwen2<T> _model;
    private readonly Tokenizer? _tokenizer;
    private readonly KvCache<T> _cache;
    private readonly DecodeActivations<T> _activations;

    /// <summary>Allocates cache and buffers.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="model">whose weights are read at every call: they may change between calls</param>
    /// <param name="tokenizer">for text and stop strings; null gives tokens only</param>
    /// <param name="slots">sequences at once</param>
    /// <param name="capacity">longest sequence, prompt and completion, tokens</param>
    public Generator(ComputeStream stream, Qwen2<T> model, Tokenizer? tokenizer, int slots, int capacity)
    {
        (_stream, _model, _tokenizer) = (stream, model, tokenizer);
        capacity = Math.Min(capacity, model.Config.MaxPositionEmbeddings);
        _cache = new KvCache<T>(model.Config, slots, capacity, stream);
        _activations = new DecodeActivations<T>(model.Config, Math.Max(capacity, Math.Min(PrefillTokens, slots * capacity)), slots, capacity, stream);
    }

    /// <summary>Completes every prompt.</summary>
    /// <param name="prompts">token ids, at least one each</param>
    /// <param name="options">limits and ends</param>
    /// <param name="finished">told the index and the completion as each one ends</param>
    /// <param name="stop">ends early by throwing OperationCanceledException</param>
    /// <exception cref="InvalidInputException">a prompt is empty or leaves no room for an answer</exception>
    public Completion[] Generate(
        IReadOnlyList<int[]> prompts, GenerateOptions options, Action<int, Completion>? finished = null, CancellationToken stop = default)
    {
        for (var i = 0; i < prompts.Count; i++)
        {
            if (prompts[i].Length == 0 || prompts[i].Length >= _cache.Capacity)
            {
                throw new InvalidInputException($"prompt {i} has {prompts[i].Length} tokens; it needs at least 1 and fewer than the context's {_cache.Capacity}");
            }
        }

        var completions = new Completion[prompts.Count];
        var active = new List<Sequence>();
        var free = new Stack<int>(Enumerable.Range(0, _cache.Slots).Reverse());
        var pending = 0;
        while (pending < prompts.Count || active.Count > 0)
        {
            stop.ThrowIfCancellationRequested();
            var next = pending;
            pending = Admit(prompts, pending, free, active, options);
            if (pending == next)
            {
                Advance(active);
            }

            for (var i = active.Count - 1; i >= 0; i--)
            {
                if (active[i].Finish is not { } reason)
                {
                    continue;
                }

                var sequence = active[i];
                active.RemoveAt(i);
                free.Push(sequence.Slot);
                completions[sequence.Prompt] = new Completion([.. sequence.Tokens], sequence.Text, reason);
                finished?.Invoke(sequence.Prompt, completions[sequence.Prompt]);
            }
        }

        return completions;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cache.Dispose();
        _activations.Dispose();
    }

    /// <summary>Reads as many waiting prompts as there are free slots and buffer rows; gives the first one still waiting.</summary>
    private int Admit(IReadOnlyList<int[]> prompts, int pending, Stack<int> free, List<Sequence> active, GenerateOptions options)
    {
        var admitted = new List<Sequence>();
        var tokens = new List<int>();
        while (pending < prompts.Count && free.Count > 0 && tokens.Count + prompts[pending].Length <= _activations.Rows)
        {
            admitted.Add(new Sequence(pending, free.Pop(), prompts[pending].Length, options, _tokenizer));
            tokens.AddRange(prompts[pending]);
            pending++;
        }

        if (admitted.Count > 0)
        {
            _model.Prefill(
                _stream, _activations, _cache, tokens.ToArray(), admitted.Select(s => s.Length).ToArray(), admitted.Select(s => s.Slot).ToArray());
            Accept(admitted);
            active.AddRange(admitted);
        }

        return pending;
    }

    private void Advance(List<Sequence> active)
    {
        Span<int> tokens = stackalloc int[active.Count], positions = stackalloc int[active.Count], slots = stackalloc int[active.Count];
        for (var i = 0; i < active.Count; i++)
        {
            (tokens[i], positions[i], slots[i]) = (active[i].Tokens[^1], active[i].Length, active[i].Slot);
            active[i].Length++;
        }

        _model.Decode(_stream, _activations, _cache, tokens, positions, slots);
        Accept(active);
    }

    private void Accept(List<Sequence> sequences)
    {
        Span<int> next = stackalloc int[sequences.Count];
        _activations.Next.Prefix(sequences.Count).CopyTo(next);
        for (var i = 0; i < sequences.Count; i++)
        {
            sequences[i].Accept(next[i], _cache.Capacity);
        }
    }

    private sealed class Sequence(int prompt, int slot, int length, GenerateOptions options, Tokenizer? tokenizer)
        : DecodeSequence(options, length, tokenizer)
    {
        public int Slot => slot;

        public int Prompt => prompt;
    }
}
