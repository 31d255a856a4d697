namespace Z1Coder.Kernels;

/// <summary>C cut into a grid of near-equal rectangles, by its shape alone and never by the workers, so that bits are the same.</summary>
internal readonly struct Tiling
{
    private readonly int _m, _n, _rowStep, _columnStep, _columnTiles;

    /// <summary>Cuts [m, n] into rowTiles x columnTiles; steps are rounded up to the granules given.</summary>
    public Tiling(int m, int n, int rowTiles, int columnTiles, int rowGranule, int columnGranule)
    {
        (_m, _n) = (m, n);
        _rowStep = Step(m, rowTiles, rowGranule);
        _columnStep = Step(n, columnTiles, columnGranule);
        _columnTiles = (n + _columnStep - 1) / _columnStep;
        Count = (m + _rowStep - 1) / _rowStep * _columnTiles;
    }

    /// <summary>Rectangles in all.</summary>
    public int Count { get; }

    /// <summary>One of them.</summary>
    public (int Row, int Rows, int Column, int Columns) this[int index]
    {
        get
        {
            var row = index / _columnTiles * _rowStep;
            var column = index % _columnTiles * _columnStep;
            return (row, Math.Min(_rowStep, _m - row), column, Math.Min(_columnStep, _n - column));
        }
    }

    private static int Step(int extent, int tiles, int granule)
    {
        var step = (extent + tiles - 1) / Math.Max(1, tiles);
        return (int)Math.Min(extent, ((long)step + granule - 1) / granule * granule);
    }
}
