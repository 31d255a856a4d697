using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// The GEMM that is always present, in the manner of BLIS (Van Zee, van de Geijn 2015): slivers of A and B are packed contiguously,
/// widened to fp32, and multiplied in a register tile. First all workers pack B, or a panel of its columns. Then each takes strips of A, whose
/// packed rows stay in its second-level cache while the slivers of B pass, each of them in the first-level cache until it has met the whole
/// strip; the sums stay there too, in fp32 until one rounding at the store. Strips are independent, and results do not depend on who computes them.
/// </summary>
internal static unsafe partial class ManagedGemm
{
    private const int Depth = 256;                 // K is taken in blocks of this many
    private const int LeastStrip = 24, MostStrip = 72;          // rows: whole slivers of 4 and of 12
    private const int StripFloats = 64 << 10;      // of packed A: in a second-level cache of 512 KiB beside passing B
    private const int PanelFloats = 2 << 20;       // of packed B: in the third-level cache
    private const int LeastTiles = 16;             // a small product is cut finer, so that it spreads over cores
    private const int LeastColumns = 96;           // of a tile: each packs its rows of A
    private const int LinesPerItem = 96;           // of B, packed at once: whole slivers of 24 and of 32

    private static readonly bool s_wide = Vector512.IsHardwareAccelerated;

    private static int RowsPerSliver => s_wide ? 12 : 4;

    private static int ColumnsPerSliver => s_wide ? 32 : 24;

    /// <summary>Computes the product over the stream's workers.</summary>
    public static void Run<TIn, TOut>(CpuStream stream, in Gemm<TIn, TOut> gemm)
        where TIn : unmanaged
        where TOut : unmanaged => RunPanels(stream, gemm);

    /// <summary>Computes the product on the calling thread.</summary>
    public static void RunHere<TIn, TOut>(in Gemm<TIn, TOut> gemm)
        where TIn : unmanaged
        where TOut : unmanaged => RunPanels(null, gemm);

    private static void RunPanels<TIn, TOut>(CpuStream? stream, in Gemm<TIn, TOut> gemm)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var most = PanelColumns(gemm.K);
        for (var column = 0; column < gemm.N; column += most)
        {
            var panel = gemm.Tile(0, gemm.M, column, Math.Min(most, gemm.N - column));
            var b = PanelOfThisThread(panel.N, panel.K);
            var (pack, tiles) = (new PackJob<TIn, TOut>(panel, b), new TileJob<TIn, TOut>(panel, b));
            if (stream is null)
            {
                pack.Run(0, pack.Count, 0);
                tiles.Run(0, tiles.Count, 0);
            }
            else
            {
                stream.For(pack.Count, 1, pack);
                stream.For(tiles.Count, 1, tiles);
            }
        }
    }

    /// <summary>Strips of at most 72 rows and 256 KiB; of a small product at least 16 tiles, unless that made them too small to hand over.</summary>
    internal static Tiling TilingOf(int m, int n, int k)
    {
        var rows = Math.Clamp(Math.Min((m + LeastTiles - 1) / LeastTiles, StripFloats / Math.Max(1, k)), LeastStrip, MostStrip);
        var strips = (m + rows - 1) / rows;
        var worth = (int)Math.Min(LeastTiles, (2.0 * m * n * k / 1e6) + 1);
        var columns = Math.Clamp((worth + strips - 1) / strips, 1, Math.Max(1, n / LeastColumns));
        return new(m, n, strips, columns, RowsPerSliver, ColumnsPerSliver);
    }

    private static int PanelColumns(int k) => Math.Max(1, PanelFloats / Math.Max(1, k) / ColumnsPerSliver) * ColumnsPerSliver;

    /// <summary>Rows row .. row + tile.M of C: <paramref name="column"/> is a whole sliver into B's panel.</summary>
    private static void Tile<TIn, TOut>(in Gemm<TIn, TOut> tile, in Packed b, int column)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var (mr, nr) = (RowsPerSliver, ColumnsPerSliver);
        var lines = (tile.M + mr - 1) / mr * mr;
        var a = new Packed((t_a ??= new()).AtLeast((nint)lines * tile.K), lines);
        for (var k = 0; k < tile.K; k += Depth)
        {
            var steps = Math.Min(Depth, tile.K - k);
            Pack(tile.A + (k * tile.AColumn), tile.ARow, tile.AColumn, tile.M, steps, mr, a.Line(k, 0, steps));
        }

        var sums = (t_sums ??= new()).AtLeast((nint)lines * nr);
        if (tile.K == 0)
        {
            NativeMemory.Clear(sums, (nuint)(lines * nr * sizeof(float)));
        }

        var ahead = (nint)nr * mr * sizeof(float) / lines;          // bytes that a tile asks for with each of its steps
        for (var j = 0; j < tile.N; j += nr)
        {
            for (var k = 0; k < tile.K; k += Depth)
            {
                var steps = Math.Min(Depth, tile.K - k);
                var left = a.Line(k, 0, steps);
                var right = b.Line(k, column + j, steps);

                // The tiles of this sliver ask for equal parts of the one that comes after it; behind the last there is nothing to lose.
                var (nextBlock, nextLine) = k + Depth < tile.K ? (k + Depth, column + j) : (0, column + j + nr);
                var next = (byte*)b.Line(nextBlock, nextLine, Math.Min(Depth, tile.K - nextBlock));
                for (nint i = 0; i < lines; i += mr, next += steps * ahead)
                {
                    if (s_wide)
                    {
                        Kernel12x32(steps, left + (i * steps), right, sums + (i * nr), nr, k > 0);
                    }
                    else
                    {
                        Kernel4x24(steps, left + (i * steps), right, sums + (i * nr), nr, k > 0, next, 2 * ahead);
                    }
                }
            }

            Store(tile, j, Math.Min(nr, tile.N - j), sums, nr);
        }
    }

    /// <summary>Some columns of C from their sums, bias and old values.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Store<TIn, TOut>(in Gemm<TIn, TOut> tile, int column, int columns, float* sums, nint stride)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var c = tile.C + column;
        var bias = tile.Bias == null ? null : tile.Bias + column;
        for (var i = 0; i < tile.M; i++, c += tile.CRow, sums += stride)
        {
            var j = 0;
            for (; j <= columns - Lanes.Count; j += Lanes.Count)
            {
                var value = Vector512.Load(sums + j);
                if (bias != null)
                {
                    value += Lanes.Load(ref bias[j], 0);
                }

                if (tile.Accumulate)
                {
                    value += Lanes.Load(ref c[j], 0);
                }

                Lanes.Store(ref c[j], 0, value);
            }

            for (; j <= columns - (Lanes.Count / 2); j += Lanes.Count / 2)
            {
                var value = Vector256.Load(sums + j);
                if (bias != null)
                {
                    value += Lanes.LoadHalf(ref bias[j], 0);
                }

                if (tile.Accumulate)
                {
                    value += Lanes.LoadHalf(ref c[j], 0);
                }

                Lanes.StoreHalf(ref c[j], 0, value);
            }

            for (; j < columns; j++)
            {
                var value = sums[j];
                if (bias != null)
                {
                    value += Lanes.Get(ref bias[j], 0);
                }

                if (tile.Accumulate)
                {
                    value += Lanes.Get(ref c[j], 0);
                }

                Lanes.Set(ref c[j], 0, value);
            }
        }
    }

    /// <summary>
    /// Slivers of <paramref name="width"/> lines: to[(line / width, step, line % width)] = from[line · lineStride + step · stepStride],
    /// zero beyond the last line. One of the strides is 1.
    /// </summary>
    private static void Pack<T>(T* from, long lineStride, long stepStride, int lines, int steps, int width, float* to)
        where T : unmanaged
    {
        var line = 0;
        for (; lineStride == 1 && width == 4 && line + Lanes.Count <= lines; line += Lanes.Count, from += Lanes.Count, to += (nint)Lanes.Count * steps)
        {
            PackFour(from, stepStride, steps, to);
        }

        for (; line < lines; line += width, from += width * lineStride, to += (nint)width * steps)
        {
            var whole = Math.Min(width, lines - line);
            if (whole < width)
            {
                NativeMemory.Clear(to, (nuint)((nint)width * steps * sizeof(float)));
                PackScalar(from, lineStride, stepStride, 0, whole, 0, steps, width, to);
            }
            else if (lineStride == 1)
            {
                PackStraight(from, stepStride, steps, width, to);
            }
            else
            {
                PackTransposed(from, lineStride, steps, width, to);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackScalar<T>(
        T* from, long lineStride, long stepStride, int firstLine, int lines, int firstStep, int steps, int width, float* to)
        where T : unmanaged
    {
        for (var line = firstLine; line < lines; line++)
        {
            for (var step = firstStep; step < steps; step++)
            {
                to[((nint)step * width) + line] = Lanes.Get(ref from[(line * lineStride) + (step * stepStride)], 0);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackStraight<T>(T* from, long stepStride, int steps, int width, float* to)
        where T : unmanaged
    {
        for (var step = 0; step < steps; step++, from += stepStride, to += width)
        {
            var i = 0;
            for (; i <= width - 16; i += 16)
            {
                Lanes.Load(ref from[i], 0).Store(to + i);
            }

            for (; i < width; i += 4)
            {
                Load4(from + i).Store(to + i);
            }
        }
    }

    /// <summary>As <see cref="PackStraight"/>, four neighbouring slivers of four values a step.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackFour<T>(T* from, long stepStride, int steps, float* to)
        where T : unmanaged
    {
        var sliver = (nint)4 * steps;
        for (var step = 0; step < steps; step++, from += stepStride, to += 4)
        {
            var values = Lanes.Load(ref *from, 0);
            values.GetLower().GetLower().Store(to);
            values.GetLower().GetUpper().Store(to + sliver);
            values.GetUpper().GetLower().Store(to + (2 * sliver));
            values.GetUpper().GetUpper().Store(to + (3 * sliver));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackTransposed<T>(T* from, long lineStride, int steps, int width, float* to)
        where T : unmanaged
    {
        var step = 0;
        if (typeof(T) == typeof(BFloat16) && Avx2.IsSupported)
        {
            for (; step <= steps - 8; step += 8)
            {
                var source = (ushort*)(from + step);
                var target = to + ((nint)step * width);
                for (var line = 0; line < width; line += 4, source += 4 * lineStride, target += 4)
                {
                    var (r0, r1) = (Vector128.Load(source), Vector128.Load(source + lineStride));
                    var (r2, r3) = (Vector128.Load(source + (2 * lineStride)), Vector128.Load(source + (3 * lineStride)));
                    var (low01, high01) = (Sse2.UnpackLow(r0, r1).AsUInt32(), Sse2.UnpackHigh(r0, r1).AsUInt32());
                    var (low23, high23) = (Sse2.UnpackLow(r2, r3).AsUInt32(), Sse2.UnpackHigh(r2, r3).AsUInt32());
                    StoreTwo(Sse2.UnpackLow(low01, low23), target, width);
                    StoreTwo(Sse2.UnpackHigh(low01, low23), target + (2 * width), width);
                    StoreTwo(Sse2.UnpackLow(high01, high23), target + (4 * width), width);
                    StoreTwo(Sse2.UnpackHigh(high01, high23), target + (6 * width), width);
                }
            }
        }

        if (Sse.IsSupported)
        {
            for (; step <= steps - 4; step += 4)
            {
                var source = from + step;
                var target = to + ((nint)step * width);
                for (var line = 0; line < width; line += 4, source += 4 * lineStride, target += 4)
                {
                    var (r0, r1) = (Load4(source), Load4(source + lineStride));
                    var (r2, r3) = (Load4(source + (2 * lineStride)), Load4(source + (3 * lineStride)));
                    var (low01, high01) = (Sse.UnpackLow(r0, r1), Sse.UnpackHigh(r0, r1));
                    var (low23, high23) = (Sse.UnpackLow(r2, r3), Sse.UnpackHigh(r2, r3));
                    Sse.MoveLowToHigh(low01, low23).Store(target);
                    Sse.MoveHighToLow(low23, low01).Store(target + width);
                    Sse.MoveLowToHigh(high01, high23).Store(target + (2 * width));
                    Sse.MoveHighToLow(high23, high01).Store(target + (3 * width));
                }
            }
        }

        PackScalar(from, lineStride, 1, 0, width, step, steps, width, to);
    }

    /// <summary>Four values of a step and four of the next.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreTwo(Vector128<uint> packed, float* to, nint width)
    {
        var wide = Avx2.ShiftLeftLogical(Avx2.ConvertToVector256Int32(packed.AsUInt16()), 16).AsSingle();
        wide.GetLower().Store(to);
        wide.GetUpper().Store(to + width);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Load4<T>(T* from)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            return Vector128.Load((float*)from);
        }

        var packed = Vector128.CreateScalarUnsafe(*(ulong*)from).AsUInt16();
        return Vector128.ShiftLeft(Vector128.WidenLower(packed), 16).AsSingle();
    }

    /// <summary>Packs B: an item is so many columns of one block of K.</summary>
    private readonly struct PackJob<TIn, TOut>(Gemm<TIn, TOut> gemm, Packed to) : ICpuJob
        where TIn : unmanaged
        where TOut : unmanaged
    {
        private readonly int _itemsPerBlock = (gemm.N + LinesPerItem - 1) / LinesPerItem;

        public int Count => (gemm.K + Depth - 1) / Depth * _itemsPerBlock;

        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            for (var item = begin; item < end; item++)
            {
                var (block, part) = Math.DivRem(item, _itemsPerBlock);
                var (k, line) = (block * Depth, part * LinesPerItem);
                var steps = Math.Min(Depth, gemm.K - k);
                Pack(
                    gemm.B + (line * gemm.BColumn) + (k * gemm.BRow), gemm.BColumn, gemm.BRow, Math.Min(LinesPerItem, gemm.N - line), steps, ColumnsPerSliver,
                    to.Line(k, line, steps));
            }
        }
    }

    private readonly struct TileJob<TIn, TOut>(Gemm<TIn, TOut> gemm, Packed b) : ICpuJob
        where TIn : unmanaged
        where TOut : unmanaged
    {
        private readonly Tiling _tiling = TilingOf(gemm.M, gemm.N, gemm.K);

        public int Count => _tiling.Count;

        public void Run(int begin, int end, int worker)
        {
            for (var i = begin; i < end; i++)
            {
                var (row, rows, column, columns) = _tiling[i];
                Tile(gemm.Tile(row, rows, column, columns), b, column);
            }
        }
    }

    /// <summary>Lines of A or B: for each block of K the slivers side by side, each all steps of its lines, zero behind the last line.</summary>
    private readonly struct Packed(float* origin, nint lines)
    {
        /// <summary>Where the sliver that begins at this line has its values of the block that begins at step k.</summary>
        public float* Line(int k, int line, int steps) => origin + (k * lines) + ((nint)line * steps);
    }

    [ThreadStatic]
    private static FloatBuffer? t_a, t_b, t_sums;

    /// <summary>Room for so many columns of B; what it held is lost.</summary>
    private static Packed PanelOfThisThread(int n, int k)
    {
        nint lines = (n + ColumnsPerSliver - 1) / ColumnsPerSliver * ColumnsPerSliver;
        return new((t_b ??= new()).AtLeast(lines * k), lines);
    }
}
