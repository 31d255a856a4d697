using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// GEMM through oneDNN, spread over the workers by tiles of C: each tile is one single-threaded oneDNN matmul. oneDNN copies B into
/// blocks on each call (and A when it is transposed), so tiles are kept tall and wide enough for that to cost little.
/// </summary>
internal static unsafe class OneDnnGemm
{
    private const double LeastTileFlops = 3e6;     // ~15 µs on one core with AVX-512 BF16: below, a hand-over costs too much
    private const int MostTiles = 64;
    private const int Granule = 16;                // one vector; oneDNN's blocks are multiples of it

    // relative losses, fitted on Zen 4 with oneDNN 2.6: copying B again for each row of tiles, narrow tiles, idling at the end
    private const double CopyLoss = 14, NarrowLoss = 40, TailLoss = 0.2;

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

    /// <summary>The grid with the least loss: rows are cut before columns, more finely where there is more to share out.</summary>
    internal static Tiling TilingOf(int m, int n, int k)
    {
        var most = Math.Min(MostTiles, 2.0 * Math.Max(m, 8) * n * k / LeastTileFlops);     // fewer rows than 8: B's bytes take the time
        var (rows, columns, least) = (1, 1, double.MaxValue);
        for (var r = 1; r <= most && r <= m; r *= 2)
        {
            for (var c = 1; r * c <= most && c <= n; c *= 2)
            {
                var loss = (CopyLoss * r / m) + (NarrowLoss * c / n) + (TailLoss / (r * c));
                if (loss < least)
                {
                    (rows, columns, least) = (r, c, loss);
                }
            }
        }

        return new(m, n, rows, columns, Granule, Granule);
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
