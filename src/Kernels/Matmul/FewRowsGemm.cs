using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// y = x·wᵀ whose every element depends on its row of x and its row of w alone: 16 chains of fused multiply-adds, one per lane, folded as
/// a tree of neighbours, whatever tile, worker or number of rows computes it. Elements are taken 32 at a time: of bfloat16 the even ones,
/// then the odd ones, which a shift and a mask widen where they stand. Rows of w are spread over the workers. With one row of x the time
/// goes into reading w; with more, eight rows of x meet two of w in registers, or four meet four (with AVX2 two, and x is widened beforehand),
/// and a block of x stays in the second-level cache while a stretch of w passes.
/// </summary>
internal static unsafe class FewRowsGemm
{
    private const int Streams = 4;                  // places of w read side by side: 4 or 8 independent chains
    private const long BytesPerPart = 2L << 20;     // of w, read by one worker at a stretch: each start costs until the reads run ahead
    private const long BytesOfX = 512 << 10;        // of x, kept in a second-level cache of 1 MiB beside the passing w
    private const int TileRows = 4;                 // of x, by Streams of w: 16 sums, 10 operands and a mask in 32 registers
    private const int BytesAhead = 8 << 10;         // of w, asked for before they are needed

    /// <summary>C = A·B with contiguous K in both (A [M, K], B [N, K] read as its transpose).</summary>
    public static void Run<T>(CpuStream stream, in Gemm<T, T> gemm)
        where T : unmanaged
    {
        if (gemm.M > 1)
        {
            var quads = Math.Clamp(65536L / Math.Max(1, (long)gemm.K * Streams), 1, 64);
            var even = (gemm.N + (4L * stream.Workers * Streams) - 1) / (4L * stream.Workers * Streams);
            float* wide = null;
            if (!Avx512F.IsSupported && HasTiles && gemm.M >= TileRows)
            {
                wide = (t_wide ??= new()).AtLeast(gemm.M * (nint)WholeSteps((nuint)gemm.K));
                Job<T>.Widen(gemm.A, gemm.ARow, gemm.M, (nuint)gemm.K, wide);
            }

            stream.For(gemm.N, Streams * (int)Math.Min(quads, even), new Job<T>(gemm, wide));
            return;
        }

        var round = stream.Workers * BytesPerPart;
        var parts = Math.Max(1, (((long)gemm.N * gemm.K * sizeof(T)) + (round / 2)) / round) * stream.Workers;
        stream.For(gemm.N, (int)((gemm.N + parts - 1) / parts), new Job<T>(gemm, null));
    }

    private const nuint Step = 2 * Lanes.Count;

    /// <summary>Of K elements those that fill steps of 32.</summary>
    private static nuint WholeSteps(nuint k) => k / Step * Step;

    private static bool HasTiles => Avx512F.IsSupported || (Avx2.IsSupported && Fma.IsSupported);

    [ThreadStatic]
    private static FloatBuffer? t_wide;

    /// <param name="gemm">the product</param>
    /// <param name="wide">x as <see cref="Widen"/> wrote it; null where no tile reads it so</param>
    private readonly struct Job<T>(Gemm<T, T> gemm, float* wide) : ICpuJob
        where T : unmanaged
    {
        /// <summary>
        /// Rows begin .. end of w, four at a time: for one row of x the n-th of four runs, each read straight through; for more rows of x,
        /// where arithmetic takes the time, neighbours.
        /// </summary>
        public void Run(int begin, int end, int worker)
        {
            if (gemm.M == 1)
            {
                Rows(0, 1, begin, end, (end - begin) / Streams, 1);
                return;
            }

            var row = (long)gemm.K * (wide == null ? sizeof(T) : 2 * sizeof(float));      // of the 512 KiB that come with AVX2 half
            var block = (int)Math.Clamp(BytesOfX / Math.Max(1, row) / TileRows * TileRows, TileRows, 1 << 20);
            for (var i = 0; i < gemm.M; i += block)
            {
                Rows(i, Math.Min(gemm.M, i + block), begin, end, 1, Streams);
            }
        }

        /// <summary>Rows from .. to of x against rows begin .. end of w.</summary>
        private void Rows(int from, int to, int begin, int end, int run, int step)
        {
            var sums = stackalloc float[2 * Streams * Lanes.Count];
            var (k, blocks) = ((nuint)gemm.K, (end - begin) / Streams);
            for (int b = 0, j = begin; b < blocks; b++, j += step)
            {
                var w = gemm.B + (j * gemm.BColumn);
                var i = from;

                // The first tile asks for as much of w as the quad has; the others ask for what is there already.
                var next = w + Math.Max(Streams * k, (nuint)(BytesAhead / sizeof(T)));
                for (; Avx512F.IsSupported && i <= to - (2 * TileRows); i += 2 * TileRows, next = w)
                {
                    var x = gemm.A + (i * gemm.ARow);
                    var left = Sum8x2(x, w, k, next).AsDouble();
                    var right = Sum8x2(x, w + (2 * k), k, next + (2 * k)).AsDouble();
                    StoreTile(i, j, Avx512F.PermuteVar8x64x2(left, Vector512.Create(0L, 8, 1, 9, 2, 10, 3, 11), right).AsSingle());
                    StoreTile(i + TileRows, j, Avx512F.PermuteVar8x64x2(left, Vector512.Create(4L, 12, 5, 13, 6, 14, 7, 15), right).AsSingle());
                }

                for (; HasTiles && i <= to - TileRows; i += TileRows, next = w)
                {
                    var x = gemm.A + (i * gemm.ARow);
                    StoreTile(i, j, Avx512F.IsSupported ? Sum4x4(x, w, k, next) : Halves4x4(wide + ((nuint)i * WholeSteps(k)), x, w, k, next));
                }

                for (; i <= to - 2; i += 2)
                {
                    var x = gemm.A + (i * gemm.ARow);
                    Sum2x4(x, x + gemm.ARow, w, (nuint)run * k, k, sums);
                    Finish(i, j, run, sums);
                    Finish(i + 1, j, run, sums + (Streams * Lanes.Count));
                }

                if (i < to)
                {
                    Sum1x4(gemm.A + (i * gemm.ARow), w, (nuint)run * k, k, sums);
                    Finish(i, j, run, sums);
                }
            }

            for (var j = begin + (Streams * blocks); j < end; j++)
            {
                for (var i = from; i < to; i++)
                {
                    Single(i, j);
                }
            }
        }

        /// <summary>
        /// Eight neighbouring rows of x against two of w: lane 2·i + j is x_i·w_j, all K elements. Meanwhile 2·K elements from
        /// <paramref name="next"/> on are asked for. A leaf, as below. Sums are updated one by one: of nested multiply-adds the compiler copies an
        /// operand each.
        /// </summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static Vector512<float> Sum8x2(T* x0, T* w0, nuint k, T* next)
        {
            var x1 = x0 + k;
            var x2 = x1 + k;
            var x3 = x2 + k;
            var x4 = x3 + k;
            var x5 = x4 + k;
            var x6 = x5 + k;
            var x7 = x6 + k;
            var w1 = w0 + k;
            var (s00, s01) = (Vector512<float>.Zero, Vector512<float>.Zero);
            var (s10, s11) = (Vector512<float>.Zero, Vector512<float>.Zero);
            var (s20, s21) = (Vector512<float>.Zero, Vector512<float>.Zero);
            var (s30, s31) = (Vector512<float>.Zero, Vector512<float>.Zero);
            var (s40, s41) = (Vector512<float>.Zero, Vector512<float>.Zero);
            var (s50, s51) = (Vector512<float>.Zero, Vector512<float>.Zero);
            var (s60, s61) = (Vector512<float>.Zero, Vector512<float>.Zero);
            var (s70, s71) = (Vector512<float>.Zero, Vector512<float>.Zero);
            nuint p = 0;
            for (; p + Step <= k; p += Step)
            {
                PrefetchStep(next + (2 * p));
                PrefetchStep(next + (2 * p) + Step);
                Load(w0, p, out var a0, out var b0);
                Load(w1, p, out var a1, out var b1);
                Load(x0, p, out var v0, out var u0);
                s00 = Vector512.FusedMultiplyAdd(v0, a0, s00);
                s01 = Vector512.FusedMultiplyAdd(v0, a1, s01);
                s00 = Vector512.FusedMultiplyAdd(u0, b0, s00);
                s01 = Vector512.FusedMultiplyAdd(u0, b1, s01);
                Load(x1, p, out var v1, out var u1);
                s10 = Vector512.FusedMultiplyAdd(v1, a0, s10);
                s11 = Vector512.FusedMultiplyAdd(v1, a1, s11);
                s10 = Vector512.FusedMultiplyAdd(u1, b0, s10);
                s11 = Vector512.FusedMultiplyAdd(u1, b1, s11);
                Load(x2, p, out var v2, out var u2);
                s20 = Vector512.FusedMultiplyAdd(v2, a0, s20);
                s21 = Vector512.FusedMultiplyAdd(v2, a1, s21);
                s20 = Vector512.FusedMultiplyAdd(u2, b0, s20);
                s21 = Vector512.FusedMultiplyAdd(u2, b1, s21);
                Load(x3, p, out var v3, out var u3);
                s30 = Vector512.FusedMultiplyAdd(v3, a0, s30);
                s31 = Vector512.FusedMultiplyAdd(v3, a1, s31);
                s30 = Vector512.FusedMultiplyAdd(u3, b0, s30);
                s31 = Vector512.FusedMultiplyAdd(u3, b1, s31);
                Load(x4, p, out var v4, out var u4);
                s40 = Vector512.FusedMultiplyAdd(v4, a0, s40);
                s41 = Vector512.FusedMultiplyAdd(v4, a1, s41);
                s40 = Vector512.FusedMultiplyAdd(u4, b0, s40);
                s41 = Vector512.FusedMultiplyAdd(u4, b1, s41);
                Load(x5, p, out var v5, out var u5);
                s50 = Vector512.FusedMultiplyAdd(v5, a0, s50);
                s51 = Vector512.FusedMultiplyAdd(v5, a1, s51);
                s50 = Vector512.FusedMultiplyAdd(u5, b0, s50);
                s51 = Vector512.FusedMultiplyAdd(u5, b1, s51);
                Load(x6, p, out var v6, out var u6);
                s60 = Vector512.FusedMultiplyAdd(v6, a0, s60);
                s61 = Vector512.FusedMultiplyAdd(v6, a1, s61);
                s60 = Vector512.FusedMultiplyAdd(u6, b0, s60);
                s61 = Vector512.FusedMultiplyAdd(u6, b1, s61);
                Load(x7, p, out var v7, out var u7);
                s70 = Vector512.FusedMultiplyAdd(v7, a0, s70);
                s71 = Vector512.FusedMultiplyAdd(v7, a1, s71);
                s70 = Vector512.FusedMultiplyAdd(u7, b0, s70);
                s71 = Vector512.FusedMultiplyAdd(u7, b1, s71);
            }

            var sum = Fold(
                s00, s01, s10, s11,
                s20, s21, s30, s31,
                s40, s41, s50, s51,
                s60, s61, s70, s71);
            return sum + (p == k ? Vector512<float>.Zero : Tails(x0, 2 * TileRows, w0, 2, p, k));
        }

        /// <summary>
        /// Four neighbouring rows of x against four of w: lane 4·i + j is x_i·w_j, all K elements. Meanwhile 4·K elements from
        /// <paramref name="next"/> on are asked for. A leaf, as below.
        /// </summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static Vector512<float> Sum4x4(T* x0, T* w0, nuint k, T* next)
        {
            var x1 = x0 + k;
            var x2 = x1 + k;
            var x3 = x2 + k;
            var w1 = w0 + k;
            var w2 = w1 + k;
            var w3 = w2 + k;
            var (s00, s01, s02, s03) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            var (s10, s11, s12, s13) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            var (s20, s21, s22, s23) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            var (s30, s31, s32, s33) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            nuint p = 0;
            for (; p + Step <= k; p += Step)
            {
                Load(x0, p, out var v0, out var u0);
                Load(x1, p, out var v1, out var u1);
                Load(x2, p, out var v2, out var u2);
                Load(x3, p, out var v3, out var u3);
                PrefetchStep(next + (4 * p));
                PrefetchStep(next + (4 * p) + Step);
                PrefetchStep(next + (4 * p) + (2 * Step));
                PrefetchStep(next + (4 * p) + (3 * Step));
                Load(w0, p, out var a0, out var b0);
                s00 = Vector512.FusedMultiplyAdd(v0, a0, s00);
                s10 = Vector512.FusedMultiplyAdd(v1, a0, s10);
                s20 = Vector512.FusedMultiplyAdd(v2, a0, s20);
                s30 = Vector512.FusedMultiplyAdd(v3, a0, s30);
                s00 = Vector512.FusedMultiplyAdd(u0, b0, s00);
                s10 = Vector512.FusedMultiplyAdd(u1, b0, s10);
                s20 = Vector512.FusedMultiplyAdd(u2, b0, s20);
                s30 = Vector512.FusedMultiplyAdd(u3, b0, s30);
                Load(w1, p, out var a1, out var b1);
                s01 = Vector512.FusedMultiplyAdd(v0, a1, s01);
                s11 = Vector512.FusedMultiplyAdd(v1, a1, s11);
                s21 = Vector512.FusedMultiplyAdd(v2, a1, s21);
                s31 = Vector512.FusedMultiplyAdd(v3, a1, s31);
                s01 = Vector512.FusedMultiplyAdd(u0, b1, s01);
                s11 = Vector512.FusedMultiplyAdd(u1, b1, s11);
                s21 = Vector512.FusedMultiplyAdd(u2, b1, s21);
                s31 = Vector512.FusedMultiplyAdd(u3, b1, s31);
                Load(w2, p, out var a2, out var b2);
                s02 = Vector512.FusedMultiplyAdd(v0, a2, s02);
                s12 = Vector512.FusedMultiplyAdd(v1, a2, s12);
                s22 = Vector512.FusedMultiplyAdd(v2, a2, s22);
                s32 = Vector512.FusedMultiplyAdd(v3, a2, s32);
                s02 = Vector512.FusedMultiplyAdd(u0, b2, s02);
                s12 = Vector512.FusedMultiplyAdd(u1, b2, s12);
                s22 = Vector512.FusedMultiplyAdd(u2, b2, s22);
                s32 = Vector512.FusedMultiplyAdd(u3, b2, s32);
                Load(w3, p, out var a3, out var b3);
                s03 = Vector512.FusedMultiplyAdd(v0, a3, s03);
                s13 = Vector512.FusedMultiplyAdd(v1, a3, s13);
                s23 = Vector512.FusedMultiplyAdd(v2, a3, s23);
                s33 = Vector512.FusedMultiplyAdd(v3, a3, s33);
                s03 = Vector512.FusedMultiplyAdd(u0, b3, s03);
                s13 = Vector512.FusedMultiplyAdd(u1, b3, s13);
                s23 = Vector512.FusedMultiplyAdd(u2, b3, s23);
                s33 = Vector512.FusedMultiplyAdd(u3, b3, s33);
            }

            var sum = Fold(
                s00, s01, s02, s03,
                s10, s11, s12, s13,
                s20, s21, s22, s23,
                s30, s31, s32, s33);
            return sum + (p == k ? Vector512<float>.Zero : Tails(x0, TileRows, w0, Streams, p, k));
        }

        /// <summary>As <see cref="Sum4x4"/>, for 16 registers of half the width: two rows of w at a time, and of their sums eight lanes at a time.</summary>
        /// <param name="wide">the rows of x as <see cref="Widen"/> wrote them</param>
        /// <param name="x">the rows themselves, for what the steps of 32 leave over</param>
        /// <param name="w">four rows</param>
        /// <param name="k">elements of a row</param>
        /// <param name="next">as there</param>
        private static Vector512<float> Halves4x4(float* wide, T* x, T* w, nuint k, T* next)
        {
            var (left, p) = (Halves4x2(wide, w, k, next).AsDouble(), WholeSteps(k));
            var right = Halves4x2(wide, w + (2 * k), k, next + (2 * k)).AsDouble();
            var (even, odd) = (Avx.UnpackLow(left, right), Avx.UnpackHigh(left, right));      // rows 0 and 2, rows 1 and 3
            var sum = Vector512.Create(Avx.Permute2x128(even, odd, 0x20).AsSingle(), Avx.Permute2x128(even, odd, 0x31).AsSingle());
            return sum + (p == k ? Vector512<float>.Zero : Tails(x, TileRows, w, Streams, p, k));
        }

        /// <summary>
        /// Four rows of x against two neighbouring ones of w without what the steps of 32 leave over: lane 2·i + j is x_i·w_j. Meanwhile 2·K elements
        /// from <paramref name="next"/> on are asked for. A leaf.
        /// </summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static Vector256<float> Halves4x2(float* x0, T* w0, nuint k, T* next)
        {
            var whole = WholeSteps(k);
            var x1 = x0 + whole;
            var x2 = x1 + whole;
            var x3 = x2 + whole;
            var w1 = w0 + k;
            var lower = Vector256<float>.Zero;
            for (var half = 0; ; half++)
            {
                var (s00, s01, s10, s11) = (Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero);
                var (s20, s21, s30, s31) = (Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero);
                for (nuint p = 0; p < whole; p += Step)
                {
                    PrefetchStep(next + p);
                    LoadHalf(w0, p, out var a0, out var b0);
                    LoadHalf(w1, p, out var a1, out var b1);
                    var v = Vector256.Load(x0 + p);
                    s00 = Vector256.FusedMultiplyAdd(v, a0, s00);
                    s01 = Vector256.FusedMultiplyAdd(v, a1, s01);
                    v = Vector256.Load(x1 + p);
                    s10 = Vector256.FusedMultiplyAdd(v, a0, s10);
                    s11 = Vector256.FusedMultiplyAdd(v, a1, s11);
                    v = Vector256.Load(x2 + p);
                    s20 = Vector256.FusedMultiplyAdd(v, a0, s20);
                    s21 = Vector256.FusedMultiplyAdd(v, a1, s21);
                    v = Vector256.Load(x3 + p);
                    s30 = Vector256.FusedMultiplyAdd(v, a0, s30);
                    s31 = Vector256.FusedMultiplyAdd(v, a1, s31);
                    v = Vector256.Load(x0 + p + 8);
                    s00 = Vector256.FusedMultiplyAdd(v, b0, s00);
                    s01 = Vector256.FusedMultiplyAdd(v, b1, s01);
                    v = Vector256.Load(x1 + p + 8);
                    s10 = Vector256.FusedMultiplyAdd(v, b0, s10);
                    s11 = Vector256.FusedMultiplyAdd(v, b1, s11);
                    v = Vector256.Load(x2 + p + 8);
                    s20 = Vector256.FusedMultiplyAdd(v, b0, s20);
                    s21 = Vector256.FusedMultiplyAdd(v, b1, s21);
                    v = Vector256.Load(x3 + p + 8);
                    s30 = Vector256.FusedMultiplyAdd(v, b0, s30);
                    s31 = Vector256.FusedMultiplyAdd(v, b1, s31);
                }

                // As the fold of sixteen: neighbours, pairs, then the quarters of either half, then the halves.
                var sum = Vector256.Create(
                    Quarters(Pairs(Pairs(s00, s01), Pairs(s10, s11))), Quarters(Pairs(Pairs(s20, s21), Pairs(s30, s31))));
                if (half == 1)
                {
                    return lower + sum;
                }

                lower = sum;
                next += k;
                x0 += 16;
                x1 += 16;
                x2 += 16;
                x3 += 16;
                w0 += 32 / sizeof(T);
                w1 += 32 / sizeof(T);
            }
        }

        /// <summary>
        /// Whole steps of <paramref name="rows"/> rows of x as <see cref="Halves4x2"/> reads them: of each 32 elements the halves of what <see cref="Load"/>
        /// gives, first, second, first, second.
        /// </summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        public static void Widen(T* x, long stride, int rows, nuint k, float* to)
        {
            for (var i = 0; i < rows; i++, x += stride)
            {
                for (nuint p = 0; p + Step <= k; p += Step, to += Step)
                {
                    LoadHalf(x, p, out var first, out var second);
                    first.Store(to);
                    second.Store(to + 8);
                    LoadHalf(x + (32 / sizeof(T)), p, out first, out second);
                    first.Store(to + 16);
                    second.Store(to + 24);
                }
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Vector256<float> Pairs(Vector256<float> a, Vector256<float> b) =>
            Avx.Shuffle(a, b, 0b10_00_10_00) + Avx.Shuffle(a, b, 0b11_01_11_01);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Vector128<float> Quarters(Vector256<float> a) => a.GetLower() + a.GetUpper();

        /// <summary>Eight of the sixteen lanes of <see cref="Load"/>.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void LoadHalf(T* from, nuint p, out Vector256<float> first, out Vector256<float> second)
        {
            if (typeof(T) == typeof(float))
            {
                first = Vector256.Load((float*)from + p);
                second = Vector256.Load((float*)from + p + Lanes.Count);
            }
            else
            {
                var pairs = Vector256.Load((uint*)(from + p));
                first = Vector256.ShiftLeft(pairs, 16).AsSingle();
                second = (pairs & Vector256.Create(0xFFFF0000)).AsSingle();
            }
        }

        /// <summary>What the steps of 32 left over, in the order of <see cref="Tail"/>.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private static Vector512<float> Tails(T* x, nuint rows, T* w, nuint columns, nuint p, nuint k)
        {
            var sums = stackalloc float[Lanes.Count];
            for (nuint i = 0; i < rows; i++)
            {
                for (nuint j = 0; j < columns; j++)
                {
                    sums[(i * columns) + j] = Tail(x + (i * k), w + (j * k), p, k);
                }
            }

            return Vector512.Load(sums);
        }

        /// <summary>Sixteen times what <see cref="Vector512.Sum{T}"/> gives: neighbours are added, then neighbouring pairs, and so on.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Vector512<float> Fold(
            Vector512<float> s0, Vector512<float> s1, Vector512<float> s2, Vector512<float> s3,
            Vector512<float> s4, Vector512<float> s5, Vector512<float> s6, Vector512<float> s7,
            Vector512<float> s8, Vector512<float> s9, Vector512<float> s10, Vector512<float> s11,
            Vector512<float> s12, Vector512<float> s13, Vector512<float> s14, Vector512<float> s15) =>
            Quarters(
                Quarters(Pairs(Pairs(s0, s1), Pairs(s2, s3)), Pairs(Pairs(s4, s5), Pairs(s6, s7))),
                Quarters(Pairs(Pairs(s8, s9), Pairs(s10, s11)), Pairs(Pairs(s12, s13), Pairs(s14, s15))));

        /// <summary>In each quarter the sums of neighbours, two of a, then two of b.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Vector512<float> Pairs(Vector512<float> a, Vector512<float> b) =>
            Avx512F.Shuffle(a, b, 0b10_00_10_00) + Avx512F.Shuffle(a, b, 0b11_01_11_01);

        /// <summary>Sums of neighbouring quarters, two of a, then two of b.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Vector512<float> Quarters(Vector512<float> a, Vector512<float> b) =>
            Avx512F.Shuffle4x128(a, b, 0b10_00_10_00) + Avx512F.Shuffle4x128(a, b, 0b11_01_11_01);

        /// <summary>Bias, old value and one rounding for four rows of four neighbours.</summary>
        private void StoreTile(int i, int j, Vector512<float> sum)
        {
            var y = gemm.C + (i * gemm.CRow) + j;
            if (gemm.Bias != null)
            {
                var bias = Load4(gemm.Bias + j);
                sum += Vector512.Create(Vector256.Create(bias, bias), Vector256.Create(bias, bias));
            }

            if (gemm.Accumulate)
            {
                sum += Vector512.Create(
                    Vector256.Create(Load4(y), Load4(y + gemm.CRow)),
                    Vector256.Create(Load4(y + (2 * gemm.CRow)), Load4(y + (3 * gemm.CRow))));
            }

            if (typeof(T) == typeof(float))
            {
                sum.GetLower().GetLower().Store((float*)y);
                sum.GetLower().GetUpper().Store((float*)(y + gemm.CRow));
                sum.GetUpper().GetLower().Store((float*)(y + (2 * gemm.CRow)));
                sum.GetUpper().GetUpper().Store((float*)(y + (3 * gemm.CRow)));
            }
            else
            {
                var rounded = Lanes.Round(sum).AsUInt64();
                for (var r = 0; r < TileRows; r++, y += gemm.CRow)
                {
                    *(ulong*)y = rounded.GetElement(r);
                }
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Vector128<float> Load4(T* from)
        {
            if (typeof(T) == typeof(float))
            {
                return Vector128.Load((float*)from);
            }

            var packed = Vector128.CreateScalarUnsafe(*(ulong*)from).AsUInt16();
            return Vector128.ShiftLeft(Vector128.WidenLower(packed), 16).AsSingle();
        }

        /// <summary>Lane sums of two rows of x against four of w. A leaf: calls behind the loop would put its sums into memory.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void Sum2x4(T* x0, T* x1, T* w0, nuint run, nuint k, float* sums)
        {
            var w1 = w0 + run;
            var w2 = w1 + run;
            var w3 = w2 + run;
            var (s00, s01, s02, s03) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            var (s10, s11, s12, s13) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            for (nuint p = 0; p + Step <= k; p += Step)
            {
                Load(x0, p, out var v0, out var u0);
                Load(x1, p, out var v1, out var u1);
                PrefetchStep(w0 + (Streams * (k + p)));
                PrefetchStep(w0 + (Streams * (k + p)) + Step);
                PrefetchStep(w0 + (Streams * (k + p)) + (2 * Step));
                PrefetchStep(w0 + (Streams * (k + p)) + (3 * Step));
                Load(w0, p, out var a0, out var b0);
                s00 = Vector512.FusedMultiplyAdd(v0, a0, s00);
                s10 = Vector512.FusedMultiplyAdd(v1, a0, s10);
                s00 = Vector512.FusedMultiplyAdd(u0, b0, s00);
                s10 = Vector512.FusedMultiplyAdd(u1, b0, s10);
                Load(w1, p, out var a1, out var b1);
                s01 = Vector512.FusedMultiplyAdd(v0, a1, s01);
                s11 = Vector512.FusedMultiplyAdd(v1, a1, s11);
                s01 = Vector512.FusedMultiplyAdd(u0, b1, s01);
                s11 = Vector512.FusedMultiplyAdd(u1, b1, s11);
                Load(w2, p, out var a2, out var b2);
                s02 = Vector512.FusedMultiplyAdd(v0, a2, s02);
                s12 = Vector512.FusedMultiplyAdd(v1, a2, s12);
                s02 = Vector512.FusedMultiplyAdd(u0, b2, s02);
                s12 = Vector512.FusedMultiplyAdd(u1, b2, s12);
                Load(w3, p, out var a3, out var b3);
                s03 = Vector512.FusedMultiplyAdd(v0, a3, s03);
                s13 = Vector512.FusedMultiplyAdd(v1, a3, s13);
                s03 = Vector512.FusedMultiplyAdd(u0, b3, s03);
                s13 = Vector512.FusedMultiplyAdd(u1, b3, s13);
            }

            s00.Store(sums);
            s01.Store(sums + 16);
            s02.Store(sums + 32);
            s03.Store(sums + 48);
            s10.Store(sums + 64);
            s11.Store(sums + 80);
            s12.Store(sums + 96);
            s13.Store(sums + 112);
        }

        /// <summary>Lane sums of one row of x against four of w. A leaf, as above.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void Sum1x4(T* x0, T* w0, nuint run, nuint k, float* sums)
        {
            var w1 = w0 + run;
            var w2 = w1 + run;
            var w3 = w2 + run;
            var (s00, s01, s02, s03) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            for (nuint p = 0; p + Step <= k; p += Step)
            {
                Load(x0, p, out var v0, out var u0);
                Load(w0, p, out var a0, out var b0);
                s00 = Vector512.FusedMultiplyAdd(u0, b0, Vector512.FusedMultiplyAdd(v0, a0, s00));
                Load(w1, p, out var a1, out var b1);
                s01 = Vector512.FusedMultiplyAdd(u0, b1, Vector512.FusedMultiplyAdd(v0, a1, s01));
                Load(w2, p, out var a2, out var b2);
                s02 = Vector512.FusedMultiplyAdd(u0, b2, Vector512.FusedMultiplyAdd(v0, a2, s02));
                Load(w3, p, out var a3, out var b3);
                s03 = Vector512.FusedMultiplyAdd(u0, b3, Vector512.FusedMultiplyAdd(v0, a3, s03));
            }

            s00.Store(sums);
            s01.Store(sums + 16);
            s02.Store(sums + 32);
            s03.Store(sums + 48);
        }

        /// <summary>Folds the lane sums of one row of x and four of w, and adds what the steps of 32 left over.</summary>
        private void Finish(int i, int j, int run, float* sums)
        {
            var x = gemm.A + (i * gemm.ARow);
            for (var r = 0; r < Streams; r++, j += run)
            {
                var w = gemm.B + (j * gemm.BColumn);
                Store(i, j, Vector512.Sum(Vector512.Load(sums + (r * Lanes.Count))) + Tail(x, w, WholeSteps((nuint)gemm.K), (nuint)gemm.K));
            }
        }

        /// <summary>The same arithmetic as in the blocks, for the rows of w that fill none.</summary>
        private void Single(int i, int j)
        {
            var x = gemm.A + (i * gemm.ARow);
            var w = gemm.B + (j * gemm.BColumn);
            var sum = Vector512<float>.Zero;
            for (nuint p = 0; p + Step <= (nuint)gemm.K; p += Step)
            {
                Load(x, p, out var v, out var u);
                Load(w, p, out var a, out var b);
                sum = Vector512.FusedMultiplyAdd(u, b, Vector512.FusedMultiplyAdd(v, a, sum));
            }

            Store(i, j, Vector512.Sum(sum) + Tail(x, w, WholeSteps((nuint)gemm.K), (nuint)gemm.K));
        }

        private static float Tail(T* x, T* w, nuint p, nuint k)
        {
            var sum = 0f;
            if (p + Lanes.Count <= k)
            {
                sum = Vector512.Sum(Lanes.Load(ref *x, p) * Lanes.Load(ref *w, p));
                p += Lanes.Count;
            }

            for (; p < k; p++)
            {
                sum = MathF.FusedMultiplyAdd(Lanes.Get(ref *x, p), Lanes.Get(ref *w, p), sum);
            }

            return sum;
        }

        /// <summary>Asks for 32 elements: rows are too short for the processor to foresee the next.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void PrefetchStep(T* place)
        {
            if (Sse.IsSupported)
            {
                Sse.Prefetch1(place);
                if (typeof(T) == typeof(float))
                {
                    Sse.Prefetch1(place + Lanes.Count);
                }
            }
        }

        /// <summary>Elements p .. p + 31: the first and second sixteen of float, the even and odd ones of bfloat16.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void Load(T* from, nuint p, out Vector512<float> first, out Vector512<float> second)
        {
            if (typeof(T) == typeof(float))
            {
                first = Vector512.Load((float*)from + p);
                second = Vector512.Load((float*)from + p + Lanes.Count);
            }
            else
            {
                var pairs = Vector512.Load((uint*)(from + p));
                first = Vector512.ShiftLeft(pairs, 16).AsSingle();
                second = (pairs & Vector512.Create(0xFFFF0000)).AsSingle();
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private void Store(int i, int j, float sum)
        {
            var y = gemm.C + (i * gemm.CRow) + j;
            if (gemm.Bias != null)
            {
                sum += Lanes.Get(ref gemm.Bias[j], 0);
            }

            if (gemm.Accumulate)
            {
                sum += Lanes.Get(ref *y, 0);
            }

            Lanes.Set(ref *y, 0, sum);
        }
    }
}
