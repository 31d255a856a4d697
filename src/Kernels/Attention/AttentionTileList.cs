using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// The tiles of a batch for kernels that give each block one tile of rows of one sequence: {first token of the sequence, first row of the
/// tile in it, length of the sequence, 0}, most work first, so that the last block to finish is not late. The rest of the list is tiles of
/// length 0, which a block leaves at once: a captured launch has the grid of the whole list and serves any batch that fits.
/// </summary>
internal sealed class AttentionTileList
{
    private const int Ints = 4;                    // of AttentionTile in Attention.cu

    private readonly int _rows;
    private readonly bool _keys;
    private readonly long[] _order;
    private readonly int[] _tiles;
    private int _uploaded;

    /// <summary>Declares the list in <paramref name="arena"/>.</summary>
    /// <param name="arena">owns the device memory</param>
    /// <param name="rows">rows of a tile</param>
    /// <param name="keys">rows are keys, whose work is the queries from the tile to the end; else queries, whose work is the keys up to it</param>
    /// <param name="maxTokens">tokens of the largest batch</param>
    /// <param name="maxSequences">sequences with at least one token, at most</param>
    public AttentionTileList(Arena arena, int rows, bool keys, int maxTokens, int maxSequences)
    {
        (_rows, _keys) = (rows, keys);
        Capacity = (maxTokens / rows) + Math.Min(maxTokens, maxSequences);     // Σ ⌈len/rows⌉ ≤ Σ (len/rows + 1)
        _order = new long[Capacity];
        _tiles = new int[Ints * Capacity];
        Tiles = arena.Declare<int>(Math.Max(1, Capacity), Ints);
    }

    /// <summary>[capacity, 4] on the device.</summary>
    public Tensor<int> Tiles { get; }

    /// <summary>Entries of the list.</summary>
    public int Capacity { get; }

    /// <summary>Entries that are tiles of the loaded batch.</summary>
    public int Count { get; private set; }

    /// <summary>Entries a launch must cover: those of this batch, or, where the launch will serve other batches too, all.</summary>
    public int Blocks(CudaStream stream) => stream.IsCapturing ? Capacity : Count;

    /// <summary>Makes the list and queues its copy to the device.</summary>
    public void Load(CudaStream stream, ReadOnlySpan<int> cuSeqlens)
    {
        Count = 0;
        for (var s = 0; s + 1 < cuSeqlens.Length; s++)
        {
            var length = cuSeqlens[s + 1] - cuSeqlens[s];
            for (var first = 0; first < length; first += _rows)
            {
                var work = _keys ? length - first : first;
                _order[Count++] = ((long)(int.MaxValue - work) << 32) | (uint)s;
            }
        }

        _order.AsSpan(0, Count).Sort();
        for (var i = 0; i < Count; i++)
        {
            var (work, s) = (int.MaxValue - (int)(_order[i] >> 32), (int)_order[i]);
            var length = cuSeqlens[s + 1] - cuSeqlens[s];
            var tile = _tiles.AsSpan(Ints * i, Ints);
            (tile[0], tile[1], tile[2], tile[3]) = (cuSeqlens[s], _keys ? length - work : work, length, 0);
        }

        var end = Math.Max(Count, _uploaded);      // entries of the batch before are cleared
        _tiles.AsSpan(Ints * Count, Ints * (end - Count)).Clear();
        if (end > 0)
        {
            stream.Upload<int>(_tiles.AsSpan(0, Ints * end), Tiles.Prefix(end, Ints));
        }

        _uploaded = Count;
    }
}
