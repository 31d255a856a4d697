using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// The GEMM that is always present, in the manner of BLIS (Van Zee, van de Geijn 2015): slivers of A and B are packed contiguously,
/// widened to fp32, and multiplied in a register tile. Each tile of C packs what it needs and keeps its sums in fp32 until one rounding
/// at the store, so tiles are independent and results do not depend on who computes them. Blocks fit a 1 MiB second-level cache.
/// </summary>
internal static unsafe partial class ManagedGemm
{
    private const int Depth = 256;                 // K is taken in blocks of this many
    private const int TileRows = 240, TileColumns = 256;
    private const int LeastTiles = 16;             // a small product is cut finer, so that it spreads over cores

    private static readonly bool s_wide = Vector512.IsHardwareAccelerated;

    private static int RowsPerSliver => s_wide ? 12 : 4;

    private static int ColumnsPerSliver => s_wide ? 32 : 24;

    /// <summary>Computes the product over the stream's workers.</summary>
    public static void Run<TIn, TOut>(CpuStream stream, in Gemm<TIn, TOut> gemm)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var tiling = TilingOf(gemm.M, gemm.N, gemm.K);
        stream.For(tiling.Count, 1, new Job<TIn, TOut>(gemm, tiling));
    }

    /// <summary>Computes the product on the calling thread.</summary>
    public static void RunHere<TIn, TOut>(in Gemm<TIn, TOut> gemm)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var tiling = TilingOf(gemm.M, gemm.N, gemm.K);
        new Job<TIn, TOut>(gemm, tiling).Run(0, tiling.Count, 0);
    }

    /// <summary>Tiles of at most 240 x 256; of a small product at least 16, unless that made them too small to hand over.</summary>
    internal static Tiling TilingOf(int m, int n, int k)
    {
        var rows = (m + TileRows - 1) / TileRows;
        var columns = (n + TileColumns - 1) / TileColumns;
        var worth = (int)Math.Min(LeastTiles, (2.0 * m * n * k / 1e6) + 1);
        while (rows * columns < worth)
        {
            if (n / columns >= 96 && n / columns >= m / rows)
            {
                columns++;
            }
            else if (m / rows >= 48)
            {
                rows++;
            }
            else
            {
                break;
            }
        }

        return new(m, n, rows, columns, RowsPerSliver, ColumnsPerSliver);
    }

    private static void Tile<TIn, TOut>(in Gemm<TIn, TOut> gemm, Buffers buffers)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var (mr, nr) = (RowsPerSliver, ColumnsPerSliver);
        nint stride = (gemm.N + nr - 1) / nr * nr;
        for (var k = 0; k < gemm.K; k += Depth)
        {
            var steps = Math.Min(Depth, gemm.K - k);
            Pack(gemm.A + (k * gemm.AColumn), gemm.ARow, gemm.AColumn, gemm.M, steps, mr, buffers.A);
            Pack(gemm.B + (k * gemm.BRow), gemm.BColumn, gemm.BRow, gemm.N, steps, nr, buffers.B);
            for (var i = 0; i < gemm.M; i += mr)
            {
                for (var j = 0; j < gemm.N; j += nr)
                {
                    var a = buffers.A + (i * steps);
                    var b = buffers.B + (j * steps);
                    var c = buffers.C + (i * stride) + j;
                    if (s_wide)
                    {
                        Kernel12x32(steps, a, b, c, stride, k > 0);
                    }
                    else
                    {
                        Kernel4x24(steps, a, b, c, stride, k > 0);
                    }
                }
            }
        }

        for (var i = 0; i < gemm.M; i++)
        {
            StoreRow(gemm, i, gemm.K == 0 ? null : buffers.C + (i * stride));
        }
    }

    /// <summary>One row of C from its sums (null: all zero), bias and old value.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void StoreRow<TIn, TOut>(in Gemm<TIn, TOut> gemm, int row, float* sums)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var c = gemm.C + (row * gemm.CRow);
        var bias = gemm.Bias;
        var j = 0;
        for (; j <= gemm.N - Lanes.Count; j += Lanes.Count)
        {
            var value = sums == null ? Vector512<float>.Zero : Vector512.Load(sums + j);
            if (bias != null)
            {
                value += Lanes.Load(ref bias[j], 0);
            }

            if (gemm.Accumulate)
            {
                value += Lanes.Load(ref c[j], 0);
            }

            Lanes.Store(ref c[j], 0, value);
        }

        for (; j < gemm.N; j++)
        {
            var value = sums == null ? 0f : sums[j];
            if (bias != null)
            {
                value += Lanes.Get(ref bias[j], 0);
            }

            if (gemm.Accumulate)
            {
                value += Lanes.Get(ref c[j], 0);
            }

            Lanes.Set(ref c[j], 0, value);
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

    private readonly struct Job<TIn, TOut>(Gemm<TIn, TOut> gemm, Tiling tiling) : ICpuJob
        where TIn : unmanaged
        where TOut : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            var buffers = Buffers.OfThisThread;
            for (var i = begin; i < end; i++)
            {
                var (row, rows, column, columns) = tiling[i];
                Tile(gemm.Tile(row, rows, column, columns), buffers);
            }
        }
    }

    /// <summary>One thread's packed A, packed B and sums, made at its first tile and kept.</summary>
    private sealed class Buffers
    {
        private const nuint Bytes = sizeof(float) * ((TileRows * Depth) + (MostColumns * Depth) + (TileRows * MostColumns));
        private const int MostColumns = 288;       // TileColumns rounded up to slivers of 32 or of 24

        [ThreadStatic]
        private static Buffers? t_ofThisThread;

        private readonly float* _memory = (float*)NativeMemory.AlignedAlloc(Bytes, 4096);

        public static Buffers OfThisThread => t_ofThisThread ??= new();

        public float* A => _memory;

        public float* B => _memory + (TileRows * Depth);

        public float* C => _memory + (TileRows * Depth) + (MostColumns * Depth);

        ~Buffers() => NativeMemory.AlignedFree(_memory);
    }
}
