using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Model;

/// <summary>
/// Passes of a model over paged sequences, driven by hand: sequences with their pages, tokens fed in prompt or decode passes, logits read back.
/// The cache starts as NaN, and pages are handed out in an order of no meaning.
/// </summary>
/// <typeparam name="T">storage of the model</typeparam>
internal sealed class PassSession<T> : IDisposable
    where T : unmanaged
{
    private readonly ComputeStream _stream;
    private readonly Qwen2<T> _model;
    private readonly PagedKvCache<T> _cache;
    private readonly PassBuffers<T> _buffers;
    private readonly PassRows _rows;
    private readonly int[][] _pages;
    private readonly int[] _lengths;

    public PassSession(ComputeStream stream, Qwen2<T> model, int sequences, int capacity, int promptRows = 128, int pageTokens = 16, int salt = 0)
    {
        (_stream, _model) = (stream, model);
        var each = (capacity + pageTokens - 1) / pageTokens;
        _cache = new PagedKvCache<T>(model.Config, (sequences * each) + 1, pageTokens, stream);
        _buffers = new PassBuffers<T>(model.Config, promptRows, sequences, capacity, each, stream);
        _rows = new PassRows(Math.Max(promptRows, sequences), sequences, each, pageTokens);
        var order = Enumerable.Range(1, sequences * each).ToArray();
        new Random(salt).Shuffle(order);
        _pages = [.. order.Chunk(each)];
        _lengths = new int[sequences];
        var nan = new T[_cache.Keys(0).Count];
        nan.AsSpan().Fill(typeof(T) == typeof(float) ? (T)(object)float.NaN : (T)(object)(BFloat16)float.NaN);
        for (var layer = 0; layer < model.Config.NumHiddenLayers; layer++)
        {
            TensorCopy.Upload<T>(stream, nan, _cache.Keys(layer));
            TensorCopy.Upload<T>(stream, nan, _cache.Values(layer));
        }
    }

    public PassBuffers<T> Buffers => _buffers;

    /// <summary>Forgets what a sequence has in the cache.</summary>
    public void Restart(int sequence) => _lengths[sequence] = 0;

    /// <summary>One pass; gives the logits after the last token of each part, in their order.</summary>
    public float[][] Pass(bool prompt, params (int Sequence, int[] Tokens)[] parts)
    {
        Run(prompt, parts);
        var logits = new T[parts.Length * _model.Config.VocabSize];
        TensorCopy.Download<T>(_stream, _buffers.Logits.Rows(0, parts.Length), logits);
        return [.. logits.Select(v => typeof(T) == typeof(float) ? (float)(object)v : (float)(BFloat16)(object)v).Chunk(_model.Config.VocabSize)];
    }

    /// <summary>As <see cref="Pass"/>, without reading anything back.</summary>
    public void Run(bool prompt, params ReadOnlySpan<(int Sequence, int[] Tokens)> parts)
    {
        _rows.Clear();
        foreach (var (sequence, tokens) in parts)
        {
            _rows.Add(tokens, _lengths[sequence], _pages[sequence], wanted: true);
            _lengths[sequence] += tokens.Length;
        }

        _model.Pass(_stream, _buffers, _cache, _rows, prompt);
    }

    public void Dispose()
    {
        _cache.Dispose();
        _buffers.Dispose();
    }
}
