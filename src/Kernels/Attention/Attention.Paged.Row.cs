// One row of a sequence on the CPU: keys are the lanes and query heads the rows of the scores, as a few heads would leave most lanes of a tile
// empty. Every sum is taken in the order of the tile's: a row has the same bits here and there.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    /// <summary>Query heads of a key head that one row takes at once; more fill the lanes of a tile as well.</summary>
    private const int RowHeads = Lanes.Count;

    /// <summary>Scores of one block of keys to probabilities, [heads][Tile]: what <see cref="PagedSoftmax"/> does with columns.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void RowSoftmax(in Scratch scratch, int keys, int heads, bool first)
    {
        ref var tops = ref scratch.Rest;
        ref var sums = ref Unsafe.Add(ref scratch.Rest, RowHeads);
        var whole = keys / Lanes.Count * Lanes.Count;
        for (var head = 0; head < heads; head++)
        {
            ref var row = ref Unsafe.Add(ref scratch.P, head * Tile);
            if (whole < keys)                                                  // lanes after the last key
            {
                var there = Vector512.LessThan(Vector512<int>.Indices, Vector512.Create(keys - whole)).AsSingle();
                Vector512.ConditionalSelect(
                    there, Vector512.LoadUnsafe(ref row, (nuint)whole), Vector512.Create(float.NegativeInfinity)).StoreUnsafe(ref row, (nuint)whole);
            }

            var max = Vector512.LoadUnsafe(ref row);
            for (var j = Lanes.Count; j < keys; j += Lanes.Count)
            {
                max = Vector512.MaxNative(max, Vector512.LoadUnsafe(ref row, (nuint)j));
            }

            var top = Largest(max);
            top = first ? top : MathF.Max(top, Unsafe.Add(ref scratch.Max, head));
            Unsafe.Add(ref tops, head) = top;
            for (var j = 0; j < keys; j += Lanes.Count)
            {
                Exp(Vector512.LoadUnsafe(ref row, (nuint)j) - Vector512.Create(top)).StoreUnsafe(ref row, (nuint)j);
            }
        }

        for (var head = 0; head < heads; head += RowBlock)                     // in the order of the keys, four heads at a time
        {
            ref var row = ref Unsafe.Add(ref scratch.P, head * Tile);
            var (s0, s1, s2, s3) = (0f, 0f, 0f, 0f);
            for (var j = 0; j < keys; j++)
            {
                s0 += Unsafe.Add(ref row, j);
                s1 += Unsafe.Add(ref row, Tile + j);
                s2 += Unsafe.Add(ref row, (2 * Tile) + j);
                s3 += Unsafe.Add(ref row, (3 * Tile) + j);
            }

            Vector128.Create(s0, s1, s2, s3).StoreUnsafe(ref sums, (nuint)head);
        }

        var (now, sum) = (Vector512.LoadUnsafe(ref tops), Vector512.LoadUnsafe(ref sums));
        if (!first)
        {
            var rescale = Exp(Vector512.LoadUnsafe(ref scratch.Max) - now);
            rescale.StoreUnsafe(ref scratch.Rescale);
            sum = Vector512.FusedMultiplyAdd(Vector512.LoadUnsafe(ref scratch.Norm), rescale, sum);
        }

        now.StoreUnsafe(ref scratch.Max);
        sum.StoreUnsafe(ref scratch.Norm);
    }

    private static float Largest(Vector512<float> x)
    {
        var half = Vector256.MaxNative(x.GetLower(), x.GetUpper());
        var quarter = Vector128.MaxNative(half.GetLower(), half.GetUpper());
        quarter = Vector128.MaxNative(quarter, Vector128.Shuffle(quarter, Vector128.Create(2, 3, 0, 1)));
        return Vector128.MaxNative(quarter, Vector128.Shuffle(quarter, Vector128.Create(1, 0, 3, 2))).ToScalar();
    }

    /// <summary>16 rows of 32 elements of bfloat16 to 32 columns of float. Pairs of elements move as one; <paramref name="stride"/> counts pairs.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void TransposePairs(ref float source, nint stride, ref float target)
    {
        TransposeQuad(ref source, stride, out var a0, out var a1, out var a2, out var a3);
        TransposeQuad(ref Unsafe.Add(ref source, 4 * stride), stride, out var b0, out var b1, out var b2, out var b3);
        TransposeQuad(ref Unsafe.Add(ref source, 8 * stride), stride, out var c0, out var c1, out var c2, out var c3);
        TransposeQuad(ref Unsafe.Add(ref source, 12 * stride), stride, out var d0, out var d1, out var d2, out var d3);
        StorePairs(a0, b0, c0, d0, ref target);
        StorePairs(a1, b1, c1, d1, ref Unsafe.Add(ref target, 2 * Tile));
        StorePairs(a2, b2, c2, d2, ref Unsafe.Add(ref target, 4 * Tile));
        StorePairs(a3, b3, c3, d3, ref Unsafe.Add(ref target, 6 * Tile));
    }

    /// <summary>As <see cref="TransposePairs"/>, of half the width: 8 rows of 16 elements to 16 columns.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void TransposePairsEighth(ref float source, nint stride, ref float target)
    {
        TransposeHalf(ref source, stride, out var a0, out var a1, out var a2, out var a3);
        TransposeHalf(ref Unsafe.Add(ref source, 4 * stride), stride, out var b0, out var b1, out var b2, out var b3);
        StorePair(Avx.Permute2x128(a0, b0, 0x20), ref target);
        StorePair(Avx.Permute2x128(a1, b1, 0x20), ref Unsafe.Add(ref target, 2 * Tile));
        StorePair(Avx.Permute2x128(a2, b2, 0x20), ref Unsafe.Add(ref target, 4 * Tile));
        StorePair(Avx.Permute2x128(a3, b3, 0x20), ref Unsafe.Add(ref target, 6 * Tile));
        StorePair(Avx.Permute2x128(a0, b0, 0x31), ref Unsafe.Add(ref target, 8 * Tile));
        StorePair(Avx.Permute2x128(a1, b1, 0x31), ref Unsafe.Add(ref target, 10 * Tile));
        StorePair(Avx.Permute2x128(a2, b2, 0x31), ref Unsafe.Add(ref target, 12 * Tile));
        StorePair(Avx.Permute2x128(a3, b3, 0x31), ref Unsafe.Add(ref target, 14 * Tile));
    }

    /// <summary>As <see cref="StoreColumns"/>, with two columns in every word: the first in its lower half.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StorePairs(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d, ref float target)
    {
        var evenAb = Avx512F.Shuffle4x128(a, b, 0x88);
        var evenCd = Avx512F.Shuffle4x128(c, d, 0x88);
        var oddAb = Avx512F.Shuffle4x128(a, b, 0xDD);
        var oddCd = Avx512F.Shuffle4x128(c, d, 0xDD);
        StorePair(Avx512F.Shuffle4x128(evenAb, evenCd, 0x88), ref target);
        StorePair(Avx512F.Shuffle4x128(oddAb, oddCd, 0x88), ref Unsafe.Add(ref target, 8 * Tile));
        StorePair(Avx512F.Shuffle4x128(evenAb, evenCd, 0xDD), ref Unsafe.Add(ref target, 16 * Tile));
        StorePair(Avx512F.Shuffle4x128(oddAb, oddCd, 0xDD), ref Unsafe.Add(ref target, 24 * Tile));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StorePair(Vector512<float> pairs, ref float target)
    {
        Vector512.ShiftLeft(pairs.AsUInt32(), 16).AsSingle().StoreUnsafe(ref target);
        (pairs.AsUInt32() & Vector512.Create(0xFFFF0000u)).AsSingle().StoreUnsafe(ref Unsafe.Add(ref target, Tile));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StorePair(Vector256<float> pairs, ref float target)
    {
        Vector256.ShiftLeft(pairs.AsUInt32(), 16).AsSingle().StoreUnsafe(ref target);
        (pairs.AsUInt32() & Vector256.Create(0xFFFF0000u)).AsSingle().StoreUnsafe(ref Unsafe.Add(ref target, Tile));
    }

    private readonly partial struct PagedJob<T>
    {
        private void RunRow(int row, int position, int sequence, int keyHead, int head, int heads, int worker)
        {
            var headDim = workspace.HeadDim;
            var padded = Padded(headDim);
            var scratch = new Scratch(workspace.Scratch, worker, padded);
            _ = LoadTile(
                ref Unsafe.Add(ref q.Origin, ((nint)row * q.Shape.Columns) + (head * headDim)), headDim, ref scratch.RowsA, heads, headDim,
                Scale(headDim));
            for (var begin = 0; begin <= position; begin += Tile)
            {
                var keys = Math.Min(Tile, position + 1 - begin);
                LoadKeyColumns(in scratch, sequence, keyHead, begin, keys, padded);
                for (var h = 0; h < heads; h += RowBlock)
                {
                    Multiply(
                        ref Unsafe.Add(ref scratch.RowsA, h * padded), padded, 1, ref scratch.QueriesT, Tile, ref Unsafe.Add(ref scratch.P, h * Tile), Tile,
                        headDim, (keys + Lanes.Count - 1) / Lanes.Count, accumulate: false);
                }

                RowSoftmax(in scratch, keys, heads, first: begin == 0);
                if (begin != 0)
                {
                    RescaleSums(in scratch, heads, padded);
                }

                AddRowValues(in scratch, sequence, keyHead, begin, keys, heads, padded);
            }

            StoreSums(in scratch, row, head, heads, heads, padded);
        }

        /// <summary>Keys of one block to QueriesT, a column each.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private void LoadKeyColumns(in Scratch scratch, int sequence, int keyHead, int begin, int keys, int padded)
        {
            var (headDim, pageTokens) = (workspace.HeadDim, kPages.Shape[1]);
            var atOnce = Avx512F.IsSupported ? 16 : 8;
            if (typeof(T) == typeof(BFloat16) && Avx.IsSupported && pageTokens % atOnce == 0 && headDim % (2 * atOnce) == 0)
            {
                // from the page as it lies; what it holds behind the last key gets columns that the softmax leaves out
                nint pairs = kPages.Shape.Columns / 2;
                for (var i = 0; i < keys; i += atOnce)
                {
                    ref var rows = ref PageRow(kPages, sequence, keyHead, begin + i, out _);
                    for (var h = 0; h < headDim; h += 2 * atOnce)
                    {
                        ref var source = ref Unsafe.As<T, float>(ref Unsafe.Add(ref rows, h));
                        ref var target = ref Unsafe.Add(ref scratch.QueriesT, (h * Tile) + i);
                        if (Avx512F.IsSupported)
                        {
                            TransposePairs(ref source, pairs, ref target);
                        }
                        else
                        {
                            TransposePairsEighth(ref source, pairs, ref target);
                        }
                    }
                }

                return;
            }

            LoadRows(kPages, ref scratch.GradientsT, sequence, keyHead, begin, keys, padded);
            Transpose(ref scratch.GradientsT, ref scratch.QueriesT, padded, (keys + Lanes.Count - 1) / Lanes.Count);
        }

        /// <summary>To the sums Σ_j p_j · v_j over the keys of the block: values from the pages as they lie, where heads are whole vectors.</summary>
        private void AddRowValues(in Scratch scratch, int sequence, int keyHead, int begin, int keys, int heads, int padded)
        {
            if (workspace.HeadDim != padded)
            {
                LoadRows(vPages, ref scratch.RowsB, sequence, keyHead, begin, keys, padded);
                for (var h = 0; h < heads; h += RowBlock)
                {
                    Multiply(
                        ref Unsafe.Add(ref scratch.P, h * Tile), Tile, 1, ref scratch.RowsB, padded, ref Unsafe.Add(ref scratch.Sum, h * padded), padded,
                        keys, padded / Lanes.Count, accumulate: begin != 0);
                }

                return;
            }

            for (var i = 0; i < keys;)
            {
                ref var rows = ref PageRow(vPages, sequence, keyHead, begin + i, out var left);
                var count = Math.Min(keys - i, left);
                for (var h = 0; h < heads; h += RowBlock)
                {
                    Multiply(
                        ref Unsafe.Add(ref scratch.P, (h * Tile) + i), Tile, 1, ref rows, vPages.Shape.Columns, ref Unsafe.Add(ref scratch.Sum, h * padded),
                        padded, count, padded / Lanes.Count, accumulate: begin + i != 0);
                }

                i += count;
            }
        }
    }
}
