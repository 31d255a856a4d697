// What forward, backward and paged share: tile sizes, scratch layout, register-tiled products, exp, transposition, row conversion.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    /// <summary>Queries per tile and keys per block: four vectors wide.</summary>
    internal const int Tile = 64;

    /// <summary>Rows per register tile of a product.</summary>
    internal const int RowBlock = 4;

    /// <summary>Query heads whose key and value gradients one worker sums in backward.</summary>
    private const int ChunkHeads = 4;

    private const int Vectors = Tile / Lanes.Count;

    /// <summary>H rounded up to whole vectors.</summary>
    internal static int Padded(int headDim) => (headDim + Lanes.Count - 1) / Lanes.Count * Lanes.Count;

    /// <summary>Groups of at most <see cref="ChunkHeads"/> query heads per key head.</summary>
    internal static int Chunks(int heads, int kvHeads) => ((heads / kvHeads) + ChunkHeads - 1) / ChunkHeads;

    /// <summary>Floats of one worker's scratch.</summary>
    internal static int ScratchFloats(int headDim) => Scratch.Floats(Padded(headDim));

    private static float Scale(int headDim) => (float)(1 / Math.Sqrt(headDim));

    /// <summary>One worker's memory. Rows of Padded(H) floats or of <see cref="Tile"/> floats, as named.</summary>
    private readonly ref struct Scratch
    {
        private const int Scores = Tile * Tile;

        /// <summary>[Padded(H)][Tile]: queries times scale, one column each.</summary>
        public readonly ref float QueriesT;

        /// <summary>[Tile][Padded(H)]: rows of o or dq being summed.</summary>
        public readonly ref float Sum;

        /// <summary>[Tile][Padded(H)]: queries times scale; in paged, keys.</summary>
        public readonly ref float RowsA;

        /// <summary>[Tile][Padded(H)]: rows of dO; in paged, values.</summary>
        public readonly ref float RowsB;

        /// <summary>[Padded(H)][Tile]: dO, one column per query.</summary>
        public readonly ref float GradientsT;

        /// <summary>[Tile][Tile]: scores, then probabilities; one row per key, one column per query.</summary>
        public readonly ref float P;

        /// <summary>[Tile][Tile]: dP, then dS; as <see cref="P"/>.</summary>
        public readonly ref float DS;

        /// <summary>[Tile] per query: running maximum; in backward, lse.</summary>
        public readonly ref float Max;

        /// <summary>[Tile] per query: running sum; in backward, do·o.</summary>
        public readonly ref float Norm;

        /// <summary>[Tile] per query: what the sum so far is to be multiplied with.</summary>
        public readonly ref float Rescale;

        /// <summary>[RowBlock][Padded(H)]: the last rows of a product that has fewer than RowBlock.</summary>
        public readonly ref float Rest;

        public Scratch(Tensor<float> all, int worker, int padded)
        {
            ref var origin = ref Unsafe.Add(ref all.Origin, (nint)worker * all.Shape.Columns);
            var block = Tile * padded;
            QueriesT = ref origin;
            Sum = ref Unsafe.Add(ref origin, block);
            RowsA = ref Unsafe.Add(ref origin, 2 * block);
            RowsB = ref Unsafe.Add(ref origin, 3 * block);
            GradientsT = ref Unsafe.Add(ref origin, 4 * block);
            P = ref Unsafe.Add(ref origin, 5 * block);
            DS = ref Unsafe.Add(ref P, Scores);
            Max = ref Unsafe.Add(ref DS, Scores);
            Norm = ref Unsafe.Add(ref Max, Tile);
            Rescale = ref Unsafe.Add(ref Norm, Tile);
            Rest = ref Unsafe.Add(ref Rescale, Tile);
        }

        public static int Floats(int padded) => checked((5 * Tile * padded) + (2 * Scores) + (3 * Tile) + (RowBlock * padded));
    }

    /// <summary>C[r, c] = or += Σ_k A[r, k] · B[k, c] for four rows and <paramref name="vectors"/> · 16 columns.
    /// A[r, k] lies at r · aRow + k · aStep; the sum runs over k in order, for every element by itself.</summary>
    private static void Multiply<T>(
        ref float a, nint aRow, nint aStep, ref T b, nint bStep, ref float c, nint cRow, int count, int vectors, bool accumulate)
        where T : unmanaged
    {
        // With 16 registers of eight lanes only the narrowest keeps its sums in them.
        while (vectors >= 4 && Vector512.IsHardwareAccelerated)
        {
            Multiply4(ref a, aRow, aStep, ref b, bStep, ref c, cRow, count, accumulate);
            b = ref Unsafe.Add(ref b, 4 * Lanes.Count);
            c = ref Unsafe.Add(ref c, 4 * Lanes.Count);
            vectors -= 4;
        }

        if (vectors >= 2 && Vector512.IsHardwareAccelerated)
        {
            Multiply2(ref a, aRow, aStep, ref b, bStep, ref c, cRow, count, accumulate);
            b = ref Unsafe.Add(ref b, 2 * Lanes.Count);
            c = ref Unsafe.Add(ref c, 2 * Lanes.Count);
            vectors -= 2;
        }

        for (; vectors != 0; vectors--)
        {
            Multiply1(ref a, aRow, aStep, ref b, bStep, ref c, cRow, count, accumulate);
            b = ref Unsafe.Add(ref b, Lanes.Count);
            c = ref Unsafe.Add(ref c, Lanes.Count);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Multiply4<T>(
        ref float a, nint aRow, nint aStep, ref T b, nint bStep, ref float c, nint cRow, int count, bool accumulate)
        where T : unmanaged
    {
        ref var c1 = ref Unsafe.Add(ref c, cRow);
        ref var c2 = ref Unsafe.Add(ref c1, cRow);
        ref var c3 = ref Unsafe.Add(ref c2, cRow);
        Vector512<float> s00 = default, s01 = default, s02 = default, s03 = default, s10 = default, s11 = default, s12 = default,
            s13 = default;
        Vector512<float> s20 = default, s21 = default, s22 = default, s23 = default, s30 = default, s31 = default, s32 = default,
            s33 = default;
        if (accumulate)
        {
            (s00, s01, s02, s03) = (Vector512.LoadUnsafe(ref c), Vector512.LoadUnsafe(ref c, 16), Vector512.LoadUnsafe(ref c, 32),
                Vector512.LoadUnsafe(ref c, 48));
            (s10, s11, s12, s13) = (Vector512.LoadUnsafe(ref c1), Vector512.LoadUnsafe(ref c1, 16), Vector512.LoadUnsafe(ref c1, 32),
                Vector512.LoadUnsafe(ref c1, 48));
            (s20, s21, s22, s23) = (Vector512.LoadUnsafe(ref c2), Vector512.LoadUnsafe(ref c2, 16), Vector512.LoadUnsafe(ref c2, 32),
                Vector512.LoadUnsafe(ref c2, 48));
            (s30, s31, s32, s33) = (Vector512.LoadUnsafe(ref c3), Vector512.LoadUnsafe(ref c3, 16), Vector512.LoadUnsafe(ref c3, 32),
                Vector512.LoadUnsafe(ref c3, 48));
        }

        ref var a1 = ref Unsafe.Add(ref a, aRow);
        ref var a2 = ref Unsafe.Add(ref a1, aRow);
        ref var a3 = ref Unsafe.Add(ref a2, aRow);
        nint at = 0;
        for (; count > 0; count--)
        {
            var b0 = Lanes.Load(ref b, 0);
            var b1 = Lanes.Load(ref b, 16);
            var b2 = Lanes.Load(ref b, 32);
            var b3 = Lanes.Load(ref b, 48);
            var x = Vector512.Create(Unsafe.Add(ref a, at));
            s00 = Vector512.FusedMultiplyAdd(x, b0, s00);
            s01 = Vector512.FusedMultiplyAdd(x, b1, s01);
            s02 = Vector512.FusedMultiplyAdd(x, b2, s02);
            s03 = Vector512.FusedMultiplyAdd(x, b3, s03);
            x = Vector512.Create(Unsafe.Add(ref a1, at));
            s10 = Vector512.FusedMultiplyAdd(x, b0, s10);
            s11 = Vector512.FusedMultiplyAdd(x, b1, s11);
            s12 = Vector512.FusedMultiplyAdd(x, b2, s12);
            s13 = Vector512.FusedMultiplyAdd(x, b3, s13);
            x = Vector512.Create(Unsafe.Add(ref a2, at));
            s20 = Vector512.FusedMultiplyAdd(x, b0, s20);
            s21 = Vector512.FusedMultiplyAdd(x, b1, s21);
            s22 = Vector512.FusedMultiplyAdd(x, b2, s22);
            s23 = Vector512.FusedMultiplyAdd(x, b3, s23);
            x = Vector512.Create(Unsafe.Add(ref a3, at));
            s30 = Vector512.FusedMultiplyAdd(x, b0, s30);
            s31 = Vector512.FusedMultiplyAdd(x, b1, s31);
            s32 = Vector512.FusedMultiplyAdd(x, b2, s32);
            s33 = Vector512.FusedMultiplyAdd(x, b3, s33);
            at += aStep;
            b = ref Unsafe.Add(ref b, bStep);
        }

        s00.StoreUnsafe(ref c);
        s01.StoreUnsafe(ref c, 16);
        s02.StoreUnsafe(ref c, 32);
        s03.StoreUnsafe(ref c, 48);
        s10.StoreUnsafe(ref c1);
        s11.StoreUnsafe(ref c1, 16);
        s12.StoreUnsafe(ref c1, 32);
        s13.StoreUnsafe(ref c1, 48);
        s20.StoreUnsafe(ref c2);
        s21.StoreUnsafe(ref c2, 16);
        s22.StoreUnsafe(ref c2, 32);
        s23.StoreUnsafe(ref c2, 48);
        s30.StoreUnsafe(ref c3);
        s31.StoreUnsafe(ref c3, 16);
        s32.StoreUnsafe(ref c3, 32);
        s33.StoreUnsafe(ref c3, 48);
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Multiply2<T>(
        ref float a, nint aRow, nint aStep, ref T b, nint bStep, ref float c, nint cRow, int count, bool accumulate)
        where T : unmanaged
    {
        ref var c1 = ref Unsafe.Add(ref c, cRow);
        ref var c2 = ref Unsafe.Add(ref c1, cRow);
        ref var c3 = ref Unsafe.Add(ref c2, cRow);
        Vector512<float> s00 = default, s01 = default, s10 = default, s11 = default, s20 = default, s21 = default, s30 = default,
            s31 = default;
        if (accumulate)
        {
            (s00, s01) = (Vector512.LoadUnsafe(ref c), Vector512.LoadUnsafe(ref c, 16));
            (s10, s11) = (Vector512.LoadUnsafe(ref c1), Vector512.LoadUnsafe(ref c1, 16));
            (s20, s21) = (Vector512.LoadUnsafe(ref c2), Vector512.LoadUnsafe(ref c2, 16));
            (s30, s31) = (Vector512.LoadUnsafe(ref c3), Vector512.LoadUnsafe(ref c3, 16));
        }

        ref var a1 = ref Unsafe.Add(ref a, aRow);
        ref var a2 = ref Unsafe.Add(ref a1, aRow);
        ref var a3 = ref Unsafe.Add(ref a2, aRow);
        nint at = 0;
        for (; count > 0; count--)
        {
            var b0 = Lanes.Load(ref b, 0);
            var b1 = Lanes.Load(ref b, 16);
            var x = Vector512.Create(Unsafe.Add(ref a, at));
            s00 = Vector512.FusedMultiplyAdd(x, b0, s00);
            s01 = Vector512.FusedMultiplyAdd(x, b1, s01);
            x = Vector512.Create(Unsafe.Add(ref a1, at));
            s10 = Vector512.FusedMultiplyAdd(x, b0, s10);
            s11 = Vector512.FusedMultiplyAdd(x, b1, s11);
            x = Vector512.Create(Unsafe.Add(ref a2, at));
            s20 = Vector512.FusedMultiplyAdd(x, b0, s20);
            s21 = Vector512.FusedMultiplyAdd(x, b1, s21);
            x = Vector512.Create(Unsafe.Add(ref a3, at));
            s30 = Vector512.FusedMultiplyAdd(x, b0, s30);
            s31 = Vector512.FusedMultiplyAdd(x, b1, s31);
            at += aStep;
            b = ref Unsafe.Add(ref b, bStep);
        }

        s00.StoreUnsafe(ref c);
        s01.StoreUnsafe(ref c, 16);
        s10.StoreUnsafe(ref c1);
        s11.StoreUnsafe(ref c1, 16);
        s20.StoreUnsafe(ref c2);
        s21.StoreUnsafe(ref c2, 16);
        s30.StoreUnsafe(ref c3);
        s31.StoreUnsafe(ref c3, 16);
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Multiply1<T>(
        ref float a, nint aRow, nint aStep, ref T b, nint bStep, ref float c, nint cRow, int count, bool accumulate)
        where T : unmanaged
    {
        ref var c1 = ref Unsafe.Add(ref c, cRow);
        ref var c2 = ref Unsafe.Add(ref c1, cRow);
        ref var c3 = ref Unsafe.Add(ref c2, cRow);
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default;
        if (accumulate)
        {
            (s0, s1, s2, s3) = (Vector512.LoadUnsafe(ref c), Vector512.LoadUnsafe(ref c1), Vector512.LoadUnsafe(ref c2),
                Vector512.LoadUnsafe(ref c3));
        }

        ref var a1 = ref Unsafe.Add(ref a, aRow);
        ref var a2 = ref Unsafe.Add(ref a1, aRow);
        ref var a3 = ref Unsafe.Add(ref a2, aRow);
        nint at = 0;
        for (; count > 0; count--)
        {
            var b0 = Lanes.Load(ref b, 0);
            s0 = Vector512.FusedMultiplyAdd(Vector512.Create(Unsafe.Add(ref a, at)), b0, s0);
            s1 = Vector512.FusedMultiplyAdd(Vector512.Create(Unsafe.Add(ref a1, at)), b0, s1);
            s2 = Vector512.FusedMultiplyAdd(Vector512.Create(Unsafe.Add(ref a2, at)), b0, s2);
            s3 = Vector512.FusedMultiplyAdd(Vector512.Create(Unsafe.Add(ref a3, at)), b0, s3);
            at += aStep;
            b = ref Unsafe.Add(ref b, bStep);
        }

        s0.StoreUnsafe(ref c);
        s1.StoreUnsafe(ref c1);
        s2.StoreUnsafe(ref c2);
        s3.StoreUnsafe(ref c3);
    }

    /// <summary>e^x for x at most about 1, within 2 ulp; 0 where the result would be below the smallest normal float, -∞ included; NaN
    /// stays NaN.</summary>
    /// <remarks>x = n·ln 2 + r, |r| ≤ ln 2 / 2; e^r = 1 + r + r² q(r) with q interpolated at Chebyshev nodes (error 2^-26).</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Exp(Vector512<float> x)
    {
        var magic = Vector512.Create(12582912f);                    // 1.5 · 2^23: adding it rounds to an integer in the low bits
        var shifted = Vector512.FusedMultiplyAdd(x, Vector512.Create(1.44269504f), magic);
        var n = shifted - magic;
        var r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-0.693359375f), x);
        r = Vector512.FusedMultiplyAdd(n, Vector512.Create(0.00021219444170128554f), r);
        var q = Vector512.FusedMultiplyAdd(r, Vector512.Create(0.0013926184037700295f), Vector512.Create(0.008363178931176662f));
        q = Vector512.FusedMultiplyAdd(r, q, Vector512.Create(0.041666556149721146f));
        q = Vector512.FusedMultiplyAdd(r, q, Vector512.Create(0.16666576266288757f));
        q = Vector512.FusedMultiplyAdd(r, q, Vector512.Create(0.5f));
        var y = Vector512.FusedMultiplyAdd(r * r, q, r) + Vector512<float>.One;
        var scaled = (y.AsInt32() + Vector512.ShiftLeft(shifted.AsInt32(), 23)).AsSingle();
        return Vector512.ConditionalSelect(Vector512.LessThan(x, Vector512.Create(-87.33f)), Vector512<float>.Zero, scaled);
    }

    /// <summary>Columns from rows: to[h][i] = from[i][h] for <paramref name="blocks"/> · 16 rows i of Padded(H) elements.</summary>
    private static void Transpose(ref float from, ref float to, int padded, int blocks)
    {
        for (var i = 0; i < blocks * Lanes.Count; i += Lanes.Count)
        {
            for (var h = 0; h < padded; h += Lanes.Count)
            {
                ref var source = ref Unsafe.Add(ref from, (i * padded) + h);
                ref var target = ref Unsafe.Add(ref to, (h * Tile) + i);
                if (Avx512F.IsSupported)
                {
                    TransposeBlock(ref source, padded, ref target);
                }
                else if (Avx.IsSupported)
                {
                    TransposeEighth(ref source, padded, ref target);
                    TransposeEighth(ref Unsafe.Add(ref source, 8), padded, ref Unsafe.Add(ref target, 8 * Tile));
                    TransposeEighth(ref Unsafe.Add(ref source, 8 * padded), padded, ref Unsafe.Add(ref target, 8));
                    TransposeEighth(ref Unsafe.Add(ref source, (8 * padded) + 8), padded, ref Unsafe.Add(ref target, (8 * Tile) + 8));
                }
                else
                {
                    for (var row = 0; row < Lanes.Count; row++)
                    {
                        for (var column = 0; column < Lanes.Count; column++)
                        {
                            Unsafe.Add(ref target, (column * Tile) + row) = Unsafe.Add(ref source, (row * padded) + column);
                        }
                    }
                }
            }
        }
    }

    /// <summary>Eight rows of eight to eight columns.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void TransposeEighth(ref float source, nint stride, ref float target)
    {
        TransposeHalf(ref source, stride, out var a0, out var a1, out var a2, out var a3);
        TransposeHalf(ref Unsafe.Add(ref source, 4 * stride), stride, out var b0, out var b1, out var b2, out var b3);
        Avx.Permute2x128(a0, b0, 0x20).StoreUnsafe(ref target);
        Avx.Permute2x128(a1, b1, 0x20).StoreUnsafe(ref Unsafe.Add(ref target, Tile));
        Avx.Permute2x128(a2, b2, 0x20).StoreUnsafe(ref Unsafe.Add(ref target, 2 * Tile));
        Avx.Permute2x128(a3, b3, 0x20).StoreUnsafe(ref Unsafe.Add(ref target, 3 * Tile));
        Avx.Permute2x128(a0, b0, 0x31).StoreUnsafe(ref Unsafe.Add(ref target, 4 * Tile));
        Avx.Permute2x128(a1, b1, 0x31).StoreUnsafe(ref Unsafe.Add(ref target, 5 * Tile));
        Avx.Permute2x128(a2, b2, 0x31).StoreUnsafe(ref Unsafe.Add(ref target, 6 * Tile));
        Avx.Permute2x128(a3, b3, 0x31).StoreUnsafe(ref Unsafe.Add(ref target, 7 * Tile));
    }

    /// <summary>Four rows of eight: half l of result c holds column 4l + c.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void TransposeHalf(
        ref float source, nint stride, out Vector256<float> h0, out Vector256<float> h1, out Vector256<float> h2, out Vector256<float> h3)
    {
        var r0 = Vector256.LoadUnsafe(ref source);
        var r1 = Vector256.LoadUnsafe(ref Unsafe.Add(ref source, stride));
        var r2 = Vector256.LoadUnsafe(ref Unsafe.Add(ref source, 2 * stride));
        var r3 = Vector256.LoadUnsafe(ref Unsafe.Add(ref source, 3 * stride));
        var low01 = Avx.UnpackLow(r0, r1).AsDouble();
        var low23 = Avx.UnpackLow(r2, r3).AsDouble();
        var high01 = Avx.UnpackHigh(r0, r1).AsDouble();
        var high23 = Avx.UnpackHigh(r2, r3).AsDouble();
        h0 = Avx.UnpackLow(low01, low23).AsSingle();
        h1 = Avx.UnpackHigh(low01, low23).AsSingle();
        h2 = Avx.UnpackLow(high01, high23).AsSingle();
        h3 = Avx.UnpackHigh(high01, high23).AsSingle();
    }

    private static void TransposeBlock(ref float source, nint stride, ref float target)
    {
        TransposeQuad(ref source, stride, out var a0, out var a1, out var a2, out var a3);
        TransposeQuad(ref Unsafe.Add(ref source, 4 * stride), stride, out var b0, out var b1, out var b2, out var b3);
        TransposeQuad(ref Unsafe.Add(ref source, 8 * stride), stride, out var c0, out var c1, out var c2, out var c3);
        TransposeQuad(ref Unsafe.Add(ref source, 12 * stride), stride, out var d0, out var d1, out var d2, out var d3);
        StoreColumns(a0, b0, c0, d0, ref target);
        StoreColumns(a1, b1, c1, d1, ref Unsafe.Add(ref target, Tile));
        StoreColumns(a2, b2, c2, d2, ref Unsafe.Add(ref target, 2 * Tile));
        StoreColumns(a3, b3, c3, d3, ref Unsafe.Add(ref target, 3 * Tile));
    }

    /// <summary>Four rows of 16: quarter l of result c holds column 4l + c.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void TransposeQuad(
        ref float source, nint stride, out Vector512<float> q0, out Vector512<float> q1, out Vector512<float> q2, out Vector512<float> q3)
    {
        var r0 = Vector512.LoadUnsafe(ref source);
        var r1 = Vector512.LoadUnsafe(ref Unsafe.Add(ref source, stride));
        var r2 = Vector512.LoadUnsafe(ref Unsafe.Add(ref source, 2 * stride));
        var r3 = Vector512.LoadUnsafe(ref Unsafe.Add(ref source, 3 * stride));
        var low01 = Avx512F.UnpackLow(r0, r1).AsDouble();
        var low23 = Avx512F.UnpackLow(r2, r3).AsDouble();
        var high01 = Avx512F.UnpackHigh(r0, r1).AsDouble();
        var high23 = Avx512F.UnpackHigh(r2, r3).AsDouble();
        q0 = Avx512F.UnpackLow(low01, low23).AsSingle();
        q1 = Avx512F.UnpackHigh(low01, low23).AsSingle();
        q2 = Avx512F.UnpackLow(high01, high23).AsSingle();
        q3 = Avx512F.UnpackHigh(high01, high23).AsSingle();
    }

    /// <summary>Quarters of four row groups to the columns c, 4 + c, 8 + c, 12 + c; <paramref name="target"/> is row c.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreColumns(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d, ref float target)
    {
        var evenAb = Avx512F.Shuffle4x128(a, b, 0x88);
        var evenCd = Avx512F.Shuffle4x128(c, d, 0x88);
        var oddAb = Avx512F.Shuffle4x128(a, b, 0xDD);
        var oddCd = Avx512F.Shuffle4x128(c, d, 0xDD);
        Avx512F.Shuffle4x128(evenAb, evenCd, 0x88).StoreUnsafe(ref target);
        Avx512F.Shuffle4x128(oddAb, oddCd, 0x88).StoreUnsafe(ref Unsafe.Add(ref target, 4 * Tile));
        Avx512F.Shuffle4x128(evenAb, evenCd, 0xDD).StoreUnsafe(ref Unsafe.Add(ref target, 8 * Tile));
        Avx512F.Shuffle4x128(oddAb, oddCd, 0xDD).StoreUnsafe(ref Unsafe.Add(ref target, 12 * Tile));
    }

    /// <summary>One head as float, times <paramref name="scale"/>, zeros behind it up to whole vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void LoadHead<T>(ref T from, ref float to, int headDim, float scale)
        where T : unmanaged
    {
        var h = 0;
        for (; h <= headDim - Lanes.Count; h += Lanes.Count)
        {
            (Lanes.Load(ref from, (nuint)h) * scale).StoreUnsafe(ref to, (nuint)h);
        }

        if (h < headDim)
        {
            Vector512<float>.Zero.StoreUnsafe(ref to, (nuint)h);
            for (; h < headDim; h++)
            {
                Unsafe.Add(ref to, h) = Lanes.Get(ref from, (nuint)h) * scale;
            }
        }
    }

    /// <summary>One head times <paramref name="scale"/>, rounded to T.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreHead<T>(ref float from, ref T to, int headDim, float scale)
        where T : unmanaged
    {
        var h = 0;
        for (; h <= headDim - Lanes.Count; h += Lanes.Count)
        {
            Lanes.Store(ref to, (nuint)h, Vector512.LoadUnsafe(ref from, (nuint)h) * scale);
        }

        for (; h < headDim; h++)
        {
            Lanes.Set(ref to, (nuint)h, Unsafe.Add(ref from, h) * scale);
        }
    }

    /// <summary>Rows of one head as float times scale, then zero rows up to a whole number of vectors of queries; returns those
    /// vectors.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int LoadTile<T>(ref T from, nint stride, ref float to, int rows, int headDim, float scale)
        where T : unmanaged
    {
        var padded = Padded(headDim);
        var vectors = (rows + Lanes.Count - 1) / Lanes.Count;
        for (var i = 0; i < rows; i++)
        {
            LoadHead(ref Unsafe.Add(ref from, i * stride), ref Unsafe.Add(ref to, i * padded), headDim, scale);
        }

        for (var at = rows * padded; at < vectors * Lanes.Count * padded; at += Lanes.Count)
        {
            Vector512<float>.Zero.StoreUnsafe(ref to, (nuint)at);
        }

        return vectors;
    }

    /// <summary>Scores of <paramref name="keys"/> keys (rows) against the tile's columns: P[j][i] = Σ_h K[j][h] · Q[h][i].
    /// On the diagonal, vectors of queries that lie before a block of keys are left out.</summary>
    private static void Scores(
        ref float rows, ref float columns, ref float scores, int keys, int vectors, int headDim, int padded, bool diagonal)
    {
        for (var j = 0; j < keys; j += RowBlock)
        {
            var skip = diagonal ? j / Lanes.Count : 0;
            Multiply(
                ref Unsafe.Add(ref rows, j * padded), padded, 1,
                ref Unsafe.Add(ref columns, skip * Lanes.Count), Tile,
                ref Unsafe.Add(ref scores, (j * Tile) + (skip * Lanes.Count)), Tile,
                headDim, vectors - skip, accumulate: false);
        }
    }

    /// <summary>Sums over keys, per query: sum[i][h] (+)= Σ_j P[j][i] · rows[j][h]; on the diagonal, j ≤ i only.</summary>
    private static void SumOverKeys(
        ref float scores, ref float rows, ref float sum, int keys, int queries, int padded, bool diagonal, bool accumulate)
    {
        for (var i = 0; i < queries; i += RowBlock)
        {
            Multiply(
                ref Unsafe.Add(ref scores, i), 1, Tile,
                ref rows, padded,
                ref Unsafe.Add(ref sum, i * padded), padded,
                diagonal ? Math.Min(keys, i + RowBlock) : keys, padded / Lanes.Count, accumulate);
        }
    }
}
