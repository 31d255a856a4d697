using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// What <see cref="Attention"/> needs beside its inputs and outputs: keys and values of one layer as float, the key and value gradients
/// of one layer before rounding, and one tile of scores per worker; and the sequences of the batch (<see cref="Load"/>). Linear in the
/// tokens; one workspace serves every layer in turn.
/// </summary>
/// <remarks>Nothing but the sequences survives a call. Not for two streams at once.</remarks>
public sealed class AttentionWorkspace
{
    private long[] _items;
    private int[] _cuSeqlens;
    private int _sequences = -1;

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
        _cuSeqlens = new int[256];
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

    /// <summary>Packed tokens of the loaded batch.</summary>
    public int Tokens => _sequences < 0 ? 0 : _cuSeqlens[_sequences];

    /// <summary>[S + 1] of the loaded batch.</summary>
    internal ReadOnlySpan<int> CuSeqlens => _cuSeqlens.AsSpan(0, _sequences + 1);

    /// <summary>[workers, ScratchFloats]: one tile per worker.</summary>
    internal Tensor<float> Scratch { get; }

    /// <summary>[2K, T + RowBlock, padded H]: K key heads, then K value heads, as float.</summary>
    internal Tensor<float> KeysValues { get; }

    /// <summary>[2 · K · chunks, T, padded H]: dK, then dV, per key head and chunk of its query heads.</summary>
    internal Tensor<float> Gradients { get; }

    /// <summary>Takes the sequences of a batch, for every <see cref="Attention.Forward"/> and <see cref="Attention.Backward"/> until the next
    /// call; once per batch, not per layer.</summary>
    /// <param name="stream">where the batch runs</param>
    /// <param name="cuSeqlens">[S + 1], 0 first, T last, never falling: sequence s holds tokens cuSeqlens[s] up to but not
    /// cuSeqlens[s + 1]</param>
    public void Load(ComputeStream stream, ReadOnlySpan<int> cuSeqlens)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Expect.That(cuSeqlens.Length >= 1, "cuSeqlens must have shape [S + 1]");
        var rising = true;
        for (var s = 1; s < cuSeqlens.Length; s++)
        {
            rising &= cuSeqlens[s] >= cuSeqlens[s - 1];
        }

        Expect.That(rising && cuSeqlens[0] == 0, "cuSeqlens must start at 0 and never fall");
        if (cuSeqlens[^1] > MaxTokens)
        {
            throw new ArgumentException($"the attention workspace is for {MaxTokens} tokens; the batch has {cuSeqlens[^1]}");
        }

        if (_cuSeqlens.Length < cuSeqlens.Length)
        {
            _cuSeqlens = new int[Math.Max(cuSeqlens.Length, 2 * _cuSeqlens.Length)];
        }

        cuSeqlens.CopyTo(_cuSeqlens);
        _sequences = cuSeqlens.Length - 1;
    }

    /// <summary>Room for a list of work items; grows on the first call that needs more.</summary>
    internal long[] Items(int count)
    {
        if (_items.Length < count)
        {
            _items = new long[Math.Max(count, 2 * _items.Length)];
        }

        return _items;
    }

    /// <summary>The call fits: same heads, and the batch that was loaded.</summary>
    internal void CheckLoaded(ComputeStream stream, int tokens, int heads, int kvHeads, int headDim, bool backward)
    {
        Check(stream, heads, kvHeads, headDim, backward);
        if (_sequences < 0)
        {
            throw new InvalidOperationException("the attention workspace has no batch: call Load first");
        }

        if (tokens != Tokens)
        {
            throw new ArgumentException($"the attention workspace is loaded with {Tokens} tokens; the call has {tokens}");
        }
    }

    /// <summary>The call fits: same heads, enough workers.</summary>
    internal void Check(ComputeStream stream, int heads, int kvHeads, int headDim, bool backward)
    {
        if (heads != Heads || kvHeads != KvHeads || headDim != HeadDim)       // messages are made only when they are needed
        {
            throw new ArgumentException(
                $"the attention workspace is for heads {Heads}, kvHeads {KvHeads}, headDim {HeadDim}; the call has {heads}, "
                + $"{kvHeads}, {headDim}");
        }

        if (stream is CpuStream cpu && cpu.Workers > Workers)
        {
            throw new ArgumentException($"the attention workspace is for {Workers} workers; the stream has {cpu.Workers}");
        }

        Expect.That(!backward || MaxTokens == 0 || !Gradients.IsEmpty, "the attention workspace was declared without backward");
    }
}
