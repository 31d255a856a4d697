using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// What <see cref="Attention"/> needs beside its inputs and outputs, and the sequences of the batch (<see cref="Load"/>). In host memory:
/// keys and values of one layer as float, the key and value gradients of one layer before rounding, and one tile of scores per worker. In
/// device memory: lists of tiles, dO·o per token and head, and key and value gradients of one layer for a backward pass in place. Linear
/// in the tokens; one workspace serves every layer in turn.
/// </summary>
/// <remarks>Nothing but the sequences survives a call. Not for two streams at once.</remarks>
public sealed class AttentionWorkspace
{
    private readonly CudaDevice? _device;
    private readonly bool _backward;
    private long[] _items;
    private int[] _cuSeqlens;
    private int _sequences = -1;
    private int[] _pagedEnds;
    private int _pagedSequences = -1;
    private int _pagedRows;

    /// <summary>Declares the tensors in <paramref name="arena"/>; allocate the arena before the first use.</summary>
    /// <param name="arena">owns the memory</param>
    /// <param name="workers">workers of the streams that will use it, at most</param>
    /// <param name="maxTokens">T of the largest packed batch; 0 when only
    /// <see cref="Attention.Paged"/> is called</param>
    /// <param name="heads">N</param>
    /// <param name="kvHeads">K</param>
    /// <param name="headDim">H</param>
    /// <param name="backward">whether <see cref="Attention.Backward"/> is called too</param>
    /// <param name="maxSequences">sequences of a batch with at least one token, at most; 0: <paramref name="maxTokens"/>. On a device a
    /// captured launch has maxTokens/64 + maxSequences blocks per head, so a graph wants it small</param>
    /// <param name="pagedRows">rows of a pass of <see cref="Attention.Paged"/> at most; 0: it is not called</param>
    /// <param name="pagedSequences">sequences with at least one row in a pass of it, at most; 0: <paramref name="pagedRows"/></param>
    /// <exception cref="NotSupportedException">the arena is on a device and the head dim is not a multiple of 8 up to 128</exception>
    public AttentionWorkspace(
        Arena arena, int workers, int maxTokens, int heads, int kvHeads, int headDim, bool backward, int maxSequences = 0, int pagedRows = 0,
        int pagedSequences = 0)
    {
        ArgumentNullException.ThrowIfNull(arena);
        ArgumentOutOfRangeException.ThrowIfLessThan(workers, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(maxTokens);
        ArgumentOutOfRangeException.ThrowIfNegative(maxSequences);
        ArgumentOutOfRangeException.ThrowIfNegative(pagedRows);
        ArgumentOutOfRangeException.ThrowIfNegative(pagedSequences);
        Attention.CheckHeads(heads, kvHeads, headDim);
        Workers = workers;
        MaxTokens = maxTokens;
        Heads = heads;
        KvHeads = kvHeads;
        HeadDim = headDim;
        MaxSequences = maxSequences == 0 ? maxTokens : maxSequences;
        MaxPagedRows = pagedRows;
        MaxPagedSequences = pagedSequences == 0 ? pagedRows : Math.Min(pagedRows, pagedSequences);
        _device = arena.Device;
        _backward = backward;
        if (_device is not null)
        {
            Attention.LoadTiles(_device, headDim);
            Variant = AttentionVariant.Of(headDim);
        }

        if (_device is null)
        {
            DeclareHost(arena);
        }
        else
        {
            DeclareDevice(arena);
        }

        _items = new long[(maxTokens / Attention.Tile) + 256];
        _cuSeqlens = new int[256];
        _pagedEnds = new int[Math.Max(256, MaxPagedSequences)];
    }

    /// <summary>Workers it has room for.</summary>
    public int Workers { get; }

    /// <summary>Packed tokens it has room for.</summary>
    public int MaxTokens { get; }

    /// <summary>Sequences with at least one token that it has room for.</summary>
    public int MaxSequences { get; }

    /// <summary>Rows of a pass of <see cref="Attention.Paged"/> that it has room for.</summary>
    public int MaxPagedRows { get; }

    /// <summary>Sequences with at least one row in such a pass that it has room for.</summary>
    public int MaxPagedSequences { get; }

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
    internal Tensor<float> Scratch { get; private set; }

    /// <summary>[2K, T + RowBlock, padded H]: K key heads, then K value heads, as float.</summary>
    internal Tensor<float> KeysValues { get; private set; }

    /// <summary>[2 · K · chunks, T, padded H]: dK, then dV, per key head and chunk of its query heads.</summary>
    internal Tensor<float> Gradients { get; private set; }

    /// <summary>The kernels of its head dim, on a device: those that were in use when the workspace was declared.</summary>
    internal AttentionVariant? Variant { get; }

    /// <summary>Tiles of queries for forward, on a device.</summary>
    internal AttentionTileList? QueryTiles { get; private set; }

    /// <summary>Tiles of queries for backward, on a device.</summary>
    internal AttentionTileList? BackwardQueryTiles { get; private set; }

    /// <summary>Tiles of keys for backward, on a device.</summary>
    internal AttentionTileList? KeyTiles { get; private set; }

    /// <summary>The wgmma kernels for the head dim, on sm_90a and, for tests, on hostcuda; null where there are none.</summary>
    internal AttentionHopper? Hopper { get; set; }

    /// <summary>Tiles of queries for <see cref="Hopper"/>.</summary>
    internal AttentionTileList? HopperQueryTiles { get; private set; }

    /// <summary>Tiles of keys for the backward of <see cref="Hopper"/>.</summary>
    internal AttentionTileList? HopperKeyTiles { get; private set; }

    /// <summary>Query heads of a key/value head that one block of its backward takes.</summary>
    internal int HopperSplitHeads { get; private set; } = 1;

    /// <summary>Blocks that share the query heads of a key/value head.</summary>
    internal int HopperSplits => ((Heads / KvHeads) + HopperSplitHeads - 1) / HopperSplitHeads;

    /// <summary>[splits, T, 2K · H]: dk, then dv, of each split, where there are several.</summary>
    internal Tensor<float> HopperParts { get; private set; }

    /// <summary>Which device file the calls with this workspace launch; tests set it, to run both on one device.</summary>
    internal AttentionPath Path { get; set; }

    /// <summary>Whether calls launch <see cref="AttentionHopper"/>.</summary>
    internal bool UsesHopper => Hopper is not null
        && (Path == AttentionPath.Hopper || (Path == AttentionPath.ByArchitecture && _device!.Architecture == "sm_90a"));

    /// <summary>[T, N]: dO·o, on a device.</summary>
    internal Tensor<float> Delta { get; private set; }

    /// <summary>[T, 2K · H]: dk, then dv, on a device, while dqkv lies over qkv.</summary>
    internal Tensor<BFloat16> KeyValueGradients { get; private set; }

    /// <summary>[S], tokens of each sequence of the loaded pass, its rows included; 0 for a sequence without rows.</summary>
    internal ReadOnlySpan<int> PagedEnds => _pagedEnds.AsSpan(0, _pagedSequences);

    /// <summary>Whether the loaded pass has one row per sequence at most and is run as such.</summary>
    internal bool PagedDecode { get; private set; }

    /// <summary>Tiles of the loaded pass; null where no pass was declared.</summary>
    internal AttentionPagedTiles? PagedTiles { get; private set; }

    /// <summary>[sequences, N, splits, H + 4], on a device: what <see cref="Attention.Paged"/> merges in a decode pass.</summary>
    internal Tensor<float> PagedParts { get; private set; }

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

        CheckDevice(stream);
        var sequences = 0;
        for (var s = 1; s < cuSeqlens.Length; s++)
        {
            sequences += cuSeqlens[s] > cuSeqlens[s - 1] ? 1 : 0;
        }

        if (sequences > MaxSequences)
        {
            throw new ArgumentException($"the attention workspace is for {MaxSequences} sequences; the batch has {sequences}");
        }

        if (_cuSeqlens.Length < cuSeqlens.Length)
        {
            _cuSeqlens = new int[Math.Max(cuSeqlens.Length, 2 * _cuSeqlens.Length)];
        }

        cuSeqlens.CopyTo(_cuSeqlens);
        _sequences = cuSeqlens.Length - 1;
        if (stream is CudaStream cuda)
        {
            QueryTiles!.Load(cuda, cuSeqlens);
            BackwardQueryTiles?.Load(cuda, cuSeqlens);
            KeyTiles?.Load(cuda, cuSeqlens);
            HopperQueryTiles?.Load(cuda, cuSeqlens);
            HopperKeyTiles?.Load(cuda, cuSeqlens);
        }
    }

    /// <summary>Takes the rows of a pass, for every <see cref="Attention.Paged"/> until the next call; once per pass, not per layer. Row i of
    /// sequence s is row rowStarts[s] + i of q and stands at position contexts[s] + i.</summary>
    /// <param name="stream">where the pass runs</param>
    /// <param name="rowStarts">[S + 1], 0 first, never falling: sequence s has rows rowStarts[s] up to but not rowStarts[s + 1]</param>
    /// <param name="contexts">[S], tokens of each sequence before its first row, in pages already</param>
    /// <param name="decode">whether this is a pass of new tokens, one row per sequence at most: on a device the keys of a row are then split
    /// over blocks, and the bits are those of decode passes. On the CPU both forms give the same bits</param>
    public void LoadPaged(ComputeStream stream, ReadOnlySpan<int> rowStarts, ReadOnlySpan<int> contexts, bool decode)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Expect.That(rowStarts.Length == contexts.Length + 1, "rowStarts must have shape [S + 1] and contexts [S]");
        var (rising, negative, longest, sequences) = (true, false, 0, 0);
        for (var s = 0; s < contexts.Length; s++)
        {
            var rows = rowStarts[s + 1] - rowStarts[s];
            rising &= rowStarts[s + 1] >= rowStarts[s];
            negative |= contexts[s] < 0 || contexts[s] > int.MaxValue - Math.Max(0, rows);
            longest = Math.Max(longest, rows);
            sequences += rows > 0 ? 1 : 0;
        }

        Expect.That(rising && rowStarts[0] == 0, "rowStarts must start at 0 and never fall");
        Expect.That(!negative, "contexts must not be negative, nor a position beyond the integers");
        Expect.That(!decode || longest <= 1, "a decode pass has at most one row per sequence");
        if (rowStarts[^1] > MaxPagedRows || sequences > MaxPagedSequences)
        {
            throw new ArgumentException(
                $"the attention workspace is for {MaxPagedRows} rows of {MaxPagedSequences} sequences in a pass; the pass has {rowStarts[^1]} "
                + $"of {sequences}");
        }

        CheckDevice(stream);
        if (_pagedEnds.Length < contexts.Length)
        {
            _pagedEnds = new int[Math.Max(contexts.Length, 2 * _pagedEnds.Length)];
        }

        for (var s = 0; s < contexts.Length; s++)
        {
            var rows = rowStarts[s + 1] - rowStarts[s];
            _pagedEnds[s] = rows == 0 ? 0 : contexts[s] + rows;
        }

        (_pagedSequences, _pagedRows, PagedDecode) = (contexts.Length, rowStarts[^1], decode);
        PagedTiles?.Load(stream, rowStarts, contexts);
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

    /// <summary>The call fits: same heads, same device, enough workers.</summary>
    internal void Check(ComputeStream stream, int heads, int kvHeads, int headDim, bool backward)
    {
        if (heads != Heads || kvHeads != KvHeads || headDim != HeadDim)       // messages are made only when they are needed
        {
            throw new ArgumentException(
                $"the attention workspace is for heads {Heads}, kvHeads {KvHeads}, headDim {HeadDim}; the call has {heads}, "
                + $"{kvHeads}, {headDim}");
        }

        CheckDevice(stream);
        if (stream is CpuStream cpu && cpu.Workers > Workers)
        {
            throw new ArgumentException($"the attention workspace is for {Workers} workers; the stream has {cpu.Workers}");
        }

        Expect.That(!backward || MaxTokens == 0 || _backward, "the attention workspace was declared without backward");
    }

    /// <summary>The call fits: same heads, and a pass that was loaded.</summary>
    internal void CheckPaged(ComputeStream stream, int rows, int heads, int kvHeads, int headDim)
    {
        Check(stream, heads, kvHeads, headDim, backward: false);
        if (_pagedSequences < 0)
        {
            throw new InvalidOperationException("the attention workspace has no pass: call LoadPaged first");
        }

        if (rows < _pagedRows)
        {
            throw new ArgumentException($"the attention workspace is loaded with a pass of {_pagedRows} rows; the call has {rows}");
        }
    }

    private void CheckDevice(ComputeStream stream)
    {
        if (!ReferenceEquals(_device, (stream as CudaStream)?.Device))
        {
            throw new ArgumentException(
                $"the attention workspace is in the memory of {_device?.Name ?? "the host"}; the stream runs on {stream.DeviceName}");
        }
    }

    private void DeclareHost(Arena arena)
    {
        var padded = Attention.Padded(HeadDim);
        Scratch = arena.Declare<float>(Workers, Attention.ScratchFloats(HeadDim));
        if (MaxPagedRows > 0)
        {
            PagedTiles = new(arena, Attention.PagedTileRows(Heads, KvHeads), MaxPagedRows, MaxPagedSequences);
        }

        if (MaxTokens > 0)
        {
            KeysValues = arena.Declare<float>(2 * KvHeads, MaxTokens + Attention.RowBlock, padded);
            if (_backward)
            {
                Gradients = arena.Declare<float>(2 * KvHeads * Attention.Chunks(Heads, KvHeads), MaxTokens, padded);
            }
        }
    }

    private void DeclareDevice(Arena arena)
    {
        var tile = Variant!.TileM;
        QueryTiles = new(arena, tile, keys: false, MaxTokens, MaxSequences);
        if (AttentionHopper.Takes(HeadDim) && (_device!.Architecture == "sm_90a" || _device.IsHostCuda))
        {
            Hopper = AttentionHopper.Of(HeadDim);
            HopperQueryTiles = new(arena, AttentionHopper.Tile, keys: false, MaxTokens, MaxSequences);
        }

        if (_backward && MaxTokens > 0)
        {
            BackwardQueryTiles = new(arena, AttentionVariant.BackwardTile, keys: false, MaxTokens, MaxSequences);
            KeyTiles = new(arena, AttentionVariant.BackwardTile, keys: true, MaxTokens, MaxSequences);
            if (Hopper is not null)
            {
                HopperKeyTiles = new(arena, AttentionHopper.Tile, keys: true, MaxTokens, MaxSequences);
                HopperSplitHeads = AttentionHopper.SplitHeads(_device!.Multiprocessors, MaxTokens, Heads, KvHeads);
                if (HopperSplits > 1)
                {
                    HopperParts = arena.Declare<float>(HopperSplits, MaxTokens, 2 * KvHeads * HeadDim);
                }
            }

            Delta = arena.Declare<float>(MaxTokens, Heads);
            KeyValueGradients = arena.Declare<BFloat16>(MaxTokens, 2 * KvHeads * HeadDim);
        }

        if (MaxPagedRows > 0)
        {
            PagedTiles = new(arena, AttentionVariant.PagedTile, MaxPagedRows, MaxPagedSequences);
            PagedParts = arena.Declare<float>(MaxPagedSequences, Heads, Attention.PagedSplits, Attention.SplitFloats(HeadDim));
        }
    }
}
