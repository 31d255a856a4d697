using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// The tiles of a pass of <see cref="Attention.Paged"/>: {first row in q, rows, position of the first row, sequence}, the most keys first,
/// so that the last worker or block to finish is not late. On a device the rest of the list is tiles of no rows, which a block leaves at
/// once: a captured launch has the grid of the whole list and serves any pass that fits.
/// </summary>
internal sealed class AttentionPagedTiles
{
    /// <summary>Of one tile.</summary>
    public const int Ints = 4;

    private readonly int _rows;
    private readonly long[] _order;
    private readonly int[] _tiles;
    private int _uploaded;

    /// <summary>Declares the list, in device memory too where <paramref name="arena"/> is on a device.</summary>
    /// <param name="arena">owns the device memory</param>
    /// <param name="rows">rows of a tile at most</param>
    /// <param name="maxRows">rows of the largest pass</param>
    /// <param name="maxSequences">sequences with at least one row, at most</param>
    public AttentionPagedTiles(Arena arena, int rows, int maxRows, int maxSequences)
    {
        _rows = rows;
        Capacity = (maxRows / rows) + Math.Min(maxRows, maxSequences);        // Σ ⌈n/rows⌉ ≤ Σ (n/rows + 1)
        _order = new long[Capacity];
        _tiles = new int[Ints * Capacity];
        if (arena.Device is not null)
        {
            Tiles = arena.Declare<int>(Math.Max(1, Capacity), Ints);
        }
    }

    /// <summary>[capacity, 4], on a device only.</summary>
    public Tensor<int> Tiles { get; }

    /// <summary>Entries of the list.</summary>
    public int Capacity { get; }

    /// <summary>Entries that are tiles of the loaded pass.</summary>
    public int Count { get; private set; }

    /// <summary>Tile <paramref name="index"/> of the loaded pass.</summary>
    public ReadOnlySpan<int> this[int index] => _tiles.AsSpan(Ints * index, Ints);

    /// <summary>Entries a launch must cover: those of this pass, or, where the launch will serve other passes too, all.</summary>
    public int Blocks(CudaStream stream) => stream.IsCapturing ? Capacity : Count;

    /// <summary>Makes the list and, on a device, queues its copy there.</summary>
    public void Load(ComputeStream stream, ReadOnlySpan<int> rowStarts, ReadOnlySpan<int> contexts)
    {
        Count = 0;
        for (var s = 0; s < contexts.Length; s++)
        {
            for (var first = 0; first < rowStarts[s + 1] - rowStarts[s]; first += _rows)
            {
                _order[Count++] = ((long)(int.MaxValue - contexts[s] - first) << 32) | (uint)s;
            }
        }

        _order.AsSpan(0, Count).Sort();
        for (var i = 0; i < Count; i++)
        {
            var (position, s) = (int.MaxValue - (int)(_order[i] >> 32), (int)_order[i]);
            var row = rowStarts[s] + position - contexts[s];
            var tile = _tiles.AsSpan(Ints * i, Ints);
            (tile[0], tile[1], tile[2], tile[3]) = (row, Math.Min(_rows, rowStarts[s + 1] - row), position, s);
        }

        var end = Math.Max(Count, _uploaded);      // entries of the pass before are cleared
        _tiles.AsSpan(Ints * Count, Ints * (end - Count)).Clear();
        if (stream is CudaStream cuda && end > 0)
        {
            cuda.Upload<int>(_tiles.AsSpan(0, Ints * end), Tiles.Prefix(end, Ints));
        }

        _uploaded = Count;
    }
}
