using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// What <see cref="Attention"/> needs beside its inputs and outputs: keys and values of one layer as float, the key and value gradients
/// of one layer before rounding, and one tile of scores per worker. Linear in the tokens; one workspace serves every layer in turn.
/// </summary>
/// <remarks>Contents never survive a call. Not for two streams at once.</remarks>
public sealed class AttentionWorkspace
{
    private long[] _items;

    /// <summary>Declares the tensors in <paramref name="arena"/>; allocate the arena before the first use.</summary>
    /// <param name="arena">owns the memory</param>
    /// <param name="workers">workers of the streams that will use it, at most</param>
    /// <param name="maxTokens">T of the largest packed batch; 0 when only <see cref="Attention.Decode"/> is called</param>
    /// <param name="heads">N</param>
    /// <param name="kvHeads">K</param>
    /// <param name="headDim">H</param>
    /// <param name="backward">whether <see cref="Attention.Backward"/> is called too</param>
    public AttentionWorkspace(Arena arena, int workers, int maxTokens, int heads, int kvHeads, int headDim, bool backward)
    {
        ArgumentNullException.ThrowIfNull(arena);
        ArgumentOutOfRangeException.ThrowIfLessThan(workers, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(maxTokens);
        Attention.CheckHeads(heads, kvHeads, headDim);
        Workers = workers;
        MaxTokens = maxTokens;
        Heads = heads;
        KvHeads = kvHeads;
        HeadDim = headDim;
        var padded = Attention.Padded(headDim);
        Scratch = arena.Declare<float>(workers, Attention.ScratchFloats(headDim));
        if (maxTokens > 0)
        {
            KeysValues = arena.Declare<float>(2 * kvHeads, maxTokens + Attention.RowBlock, padded);
            if (backward)
            {
                Gradients = arena.Declare<float>(2 * kvHeads * Attention.Chunks(heads, kvHeads), maxTokens, padded);
            }
        }

        _items = new long[(maxTokens / Attention.Tile) + 256];
    }

    /// <summary>Workers it has room for.</summary>
    public int Workers { get; }

    /// <summary>Packed tokens it has room for.</summary>
    public int MaxTokens { get; }

    /// <summary>N, query heads.</summary>
    public int Heads { get; }

    /// <summary>K, key and value heads.</summary>
    public int KvHeads { get; }

    /// <summary>H, elements per head.</summary>
    public int HeadDim { get; }

    /// <summary>[workers, ScratchFloats]: one tile per worker.</summary>
    internal Tensor<float> Scratch { get; }

    /// <summary>[2K, T + RowBlock, padded H]: K key heads, then K value heads, as float.</summary>
    internal Tensor<float> KeysValues { get; }

    /// <summary>[2 · K · chunks, T, padded H]: dK, then dV, per key head and chunk of its query heads.</summary>
    internal Tensor<float> Gradients { get; }

    /// <summary>Room for a list of work items; grows on the first call that needs more.</summary>
    internal long[] Items(int count)
    {
        if (_items.Length < count)
        {
            _items = new long[Math.Max(count, 2 * _items.Length)];
        }

        return _items;
    }

    /// <summary>The call fits: same heads, enough room.</summary>
    internal void Check(CpuStream stream, int tokens, int heads, int kvHeads, int headDim, bool backward)
    {
        if (heads != Heads || kvHeads != KvHeads || headDim != HeadDim)       // messages are made only when they are needed
        {
            throw new ArgumentException(
                $"the attention workspace is for heads {Heads}, kvHeads {KvHeads}, headDim {HeadDim}; the call has {heads}, "
                + $"{kvHeads}, {headDim}");
        }

        if (stream.Workers > Workers)
        {
            throw new ArgumentException($"the attention workspace is for {Workers} workers; the stream has {stream.Workers}");
        }

        if (tokens > MaxTokens)
        {
            throw new ArgumentException($"the attention workspace is for {MaxTokens} tokens; the call has {tokens}");
        }

        Expect.That(!backward || tokens == 0 || !Gradients.IsEmpty, "the attention workspace was declared without backward");
    }
}
