using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// GEMM through oneDNN, spread over the workers by tiles of C: each tile is one single-threaded oneDNN matmul. oneDNN copies B into
/// blocks on each call (and A when it is transposed), so tiles are kept tall and wide enough for that to cost little.
/// </summary>
internal static unsafe class OneDnnGemm
{
    private const double TileFlops = 24e6;         // ~0.1 ms on one core with AVX-512 BF16
    private const int MostTiles = 64;
    private const int ColumnGranule = 64;          // oneDNN's block of columns
    private const int RowGranule = 32;

    /// <summary>Whether the library is there and has code for these elements on this processor.</summary>
    public static bool Supports<TIn>() =>
        OneDnn.Library is { } library && (typeof(TIn) == typeof(float) ? library.SupportsFloat : library.SupportsBFloat16);

    /// <summary>Computes the product; the caller has asked <see cref="Supports"/>.</summary>
    public static void Run<TIn, TOut>(CpuStream stream, in Gemm<TIn, TOut> gemm)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var tiling = TilingOf(gemm.M, gemm.N, gemm.K);
        stream.For(tiling.Count, 1, new Job<TIn, TOut>(OneDnn.Library!, gemm, tiling));
    }

    /// <summary>Tiles for a shape: few when the product is small, columns cut before rows because a tile copies its columns of B.</summary>
    internal static Tiling TilingOf(int m, int n, int k)
    {
        var tiles = (int)Math.Clamp(2.0 * m * n * k / TileFlops, 1, MostTiles);
        var columns = Math.Clamp(tiles, 1, Math.Max(1, n / 128));
        var rows = Math.Clamp((tiles + columns - 1) / columns, 1, Math.Max(1, m / 256));
        return new(m, n, rows, columns, RowGranule, ColumnGranule);
    }

    private readonly struct Job<TIn, TOut>(OneDnnLibrary library, Gemm<TIn, TOut> gemm, Tiling tiling) : ICpuJob
        where TIn : unmanaged
        where TOut : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            var thread = OneDnnThread.OfThisThread(library);
            for (var i = begin; i < end; i++)
            {
                var (row, rows, column, columns) = tiling[i];
                var tile = gemm.Tile(row, rows, column, columns);
                if (!thread.TryRun(tile.Key, (nint)tile.A, (nint)tile.B, (nint)tile.Bias, (nint)tile.C))
                {
                    ManagedGemm.RunHere(tile);
                }
            }
        }
    }
}
