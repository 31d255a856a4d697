// Work item of forward: one query head, one tile of queries. Scores are kept one row per key and one column per query, so that maxima and
// sums over keys need no sum across lanes, and no operand but the queries is ever transposed.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    private const int RowsPerChunk = 16;

    private static void ForwardCpu<T>(
        CpuStream stream, Tensor<T> qkv, Tensor<T> o, Tensor<float> lse, AttentionWorkspace workspace)
        where T : unmanaged
    {
        PackKeysValues(stream, qkv, workspace);
        var ends = workspace.CuSeqlens;
        var items = workspace.Items((qkv.Shape[0] / Tile) + ends.Length);
        var count = 0;
        for (var s = 0; s < ends.Length - 1; s++)
        {
            for (var first = 0; first < ends[s + 1] - ends[s]; first += Tile)
            {
                items[count++] = Item(first, s);
            }
        }

        items.AsSpan(0, count).Sort();
        stream.For(count * workspace.Heads, 1, new ForwardJob<T>(qkv, o, lse, workspace, items));
    }

    private static void AppendToCacheCpu<T>(
        CpuStream stream, Tensor<T> qkv, Tensor<int> pages, Tensor<int> offsets, Tensor<T> kPages, Tensor<T> vPages, int heads,
        int kvHeads, int headDim)
        where T : unmanaged =>
        stream.For(qkv.Shape[0], RowsPerChunk, new AppendJob<T>(qkv, pages, offsets, kPages, vPages, heads * headDim, kvHeads * headDim));

    private static void PackKeysValues<T>(CpuStream stream, Tensor<T> qkv, AttentionWorkspace workspace)
        where T : unmanaged =>
        stream.For(qkv.Shape[0], RowsPerChunk, new PackJob<T>(qkv, workspace));

    /// <summary>A sequence and a measure of its work; sorting puts the most work first, so that the last worker to finish is not
    /// late.</summary>
    private static long Item(int work, int sequence) => ((long)(int.MaxValue - work) << 32) | (uint)sequence;

    private static (int Work, int Sequence) FromItem(long item) => (int.MaxValue - (int)(item >> 32), (int)item);

    /// <summary>The row of key head or value head (from K on) at token <paramref name="token"/>.</summary>
    private static ref float KeyRow(AttentionWorkspace workspace, int head, int tokens, int token) =>
        ref Unsafe.Add(ref workspace.KeysValues.Origin, (((nint)head * (tokens + RowBlock)) + token) * Padded(workspace.HeadDim));

    /// <summary>Probabilities of one block of keys from its scores, in place; running maximum and sum updated.</summary>
    private static void SoftmaxBlock(in Scratch scratch, int keys, int vectors, bool first, bool diagonal)
    {
        for (var v = 0; v < vectors; v++)
        {
            var at = v * Lanes.Count;
            var end = diagonal ? Math.Min(keys, at + Lanes.Count) : keys;
            var free = diagonal ? Math.Min(keys, at + 1) : keys;               // rows that every query of the vector may see
            SoftmaxVector(in scratch, at, free, end, Vector512<int>.Indices + Vector512.Create(at), first);
        }
    }

    /// <summary>One vector of queries, from column <paramref name="at"/> on: all see the keys before <paramref name="free"/>, those from there
    /// to <paramref name="end"/> are seen as far as <paramref name="last"/>, the last key of each query.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void SoftmaxVector(in Scratch scratch, int at, int free, int end, Vector512<int> last, bool first)
    {
        ref var column = ref Unsafe.Add(ref scratch.P, at);
        var before = first ? Vector512.Create(float.NegativeInfinity) : Vector512.LoadUnsafe(ref scratch.Max, (nuint)at);
        var max = before;
        for (var j = 0; j < free; j++)
        {
            max = Vector512.MaxNative(max, Vector512.LoadUnsafe(ref column, (nuint)(j * Tile)));
        }

        for (var j = free; j < end; j++)
        {
            var seen = Vector512.GreaterThanOrEqual(last, Vector512.Create(j)).AsSingle();
            var s = Vector512.ConditionalSelect(
                seen, Vector512.LoadUnsafe(ref column, (nuint)(j * Tile)), Vector512.Create(float.NegativeInfinity));
            s.StoreUnsafe(ref column, (nuint)(j * Tile));
            max = Vector512.MaxNative(max, s);
        }

        var sum = Vector512<float>.Zero;
        for (var j = 0; j < end; j++)
        {
            var p = Exp(Vector512.LoadUnsafe(ref column, (nuint)(j * Tile)) - max);
            p.StoreUnsafe(ref column, (nuint)(j * Tile));
            sum += p;
        }

        if (!first)
        {
            var rescale = Exp(before - max);                                   // exactly 1 for a query that sees no key of the block
            rescale.StoreUnsafe(ref scratch.Rescale, (nuint)at);
            sum = Vector512.FusedMultiplyAdd(Vector512.LoadUnsafe(ref scratch.Norm, (nuint)at), rescale, sum);
        }

        max.StoreUnsafe(ref scratch.Max, (nuint)at);
        sum.StoreUnsafe(ref scratch.Norm, (nuint)at);
    }

    /// <summary>One block of keys and values into the running softmax and sum of the tile.</summary>
    private static void AddBlock(
        in Scratch scratch, ref float keyRows, ref float valueRows, int keys, int queries, int vectors, int headDim, int padded,
        bool first, bool diagonal)
    {
        Scores(ref keyRows, ref scratch.QueriesT, ref scratch.P, keys, vectors, headDim, padded, diagonal);
        SoftmaxBlock(in scratch, keys, vectors, first, diagonal);
        if (!first)
        {
            for (var i = 0; i < queries; i++)
            {
                var rescale = Unsafe.Add(ref scratch.Rescale, i);
                if (rescale == 1)
                {
                    continue;
                }

                ref var row = ref Unsafe.Add(ref scratch.Sum, i * padded);
                for (var h = 0; h < padded; h += Lanes.Count)
                {
                    (Vector512.LoadUnsafe(ref row, (nuint)h) * rescale).StoreUnsafe(ref row, (nuint)h);
                }
            }
        }

        SumOverKeys(ref scratch.P, ref valueRows, ref scratch.Sum, keys, queries, padded, diagonal, accumulate: !first);
    }

    /// <summary>Keys and values as float, one contiguous matrix per head.</summary>
    private readonly struct PackJob<T>(Tensor<T> qkv, AttentionWorkspace workspace) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var (headDim, kvHeads) = (workspace.HeadDim, workspace.KvHeads);
            for (var t = begin; t < end; t++)
            {
                ref var row = ref Unsafe.Add(ref qkv.Origin, ((nint)t * qkv.Shape.Columns) + (workspace.Heads * headDim));
                for (var head = 0; head < 2 * kvHeads; head++)
                {
                    LoadHead(ref Unsafe.Add(ref row, head * headDim), ref KeyRow(workspace, head, qkv.Shape[0], t), headDim, 1f);
                }
            }
        }
    }

    private readonly struct ForwardJob<T>(
        Tensor<T> qkv, Tensor<T> o, Tensor<float> lse, AttentionWorkspace workspace, long[] items) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            for (var item = begin; item < end; item++)
            {
                var (first, sequence) = FromItem(items[item / workspace.Heads]);
                var start = workspace.CuSeqlens[sequence];
                RunTile(start, first, Math.Min(Tile, workspace.CuSeqlens[sequence + 1] - start - first), item % workspace.Heads, worker);
            }
        }

        private void RunTile(int start, int first, int queries, int head, int worker)
        {
            var (headDim, heads, tokens) = (workspace.HeadDim, workspace.Heads, qkv.Shape[0]);
            var padded = Padded(headDim);
            var scratch = new Scratch(workspace.Scratch, worker, padded);
            nint token = start + first;
            var vectors = LoadTile(
                ref Unsafe.Add(ref qkv.Origin, (token * qkv.Shape.Columns) + (head * headDim)), qkv.Shape.Columns, ref scratch.RowsA,
                queries, headDim, Scale(headDim));
            Transpose(ref scratch.RowsA, ref scratch.QueriesT, padded, vectors);
            var keyHead = head / (heads / workspace.KvHeads);
            for (var j = 0; j <= first; j += Tile)
            {
                AddBlock(
                    in scratch,
                    ref KeyRow(workspace, keyHead, tokens, start + j),
                    ref KeyRow(workspace, workspace.KvHeads + keyHead, tokens, start + j),
                    j == first ? queries : Tile, queries, vectors, headDim, padded, first: j == 0, diagonal: j == first);
            }

            for (var i = 0; i < queries; i++)
            {
                var norm = Unsafe.Add(ref scratch.Norm, i);
                StoreHead(
                    ref Unsafe.Add(ref scratch.Sum, i * padded),
                    ref Unsafe.Add(ref o.Origin, ((token + i) * o.Shape.Columns) + (head * headDim)), headDim, 1 / norm);
                Unsafe.Add(ref lse.Origin, ((token + i) * heads) + head) = Unsafe.Add(ref scratch.Max, i) + MathF.Log(norm);
            }
        }
    }

    private readonly struct AppendJob<T>(
        Tensor<T> qkv, Tensor<int> pages, Tensor<int> offsets, Tensor<T> kPages, Tensor<T> vPages, int keysAt, int width) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            for (var t = begin; t < end; t++)
            {
                var row = qkv.Row(t);
                var to = checked((pages.Span[t] * kPages.Shape[1]) + offsets.Span[t]);
                row.Slice(keysAt, width).CopyTo(kPages.Row(to));
                row.Slice(keysAt + width, width).CopyTo(vPages.Row(to));
            }
        }
    }
}
