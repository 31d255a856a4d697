// Work item of backward: one sequence, one key head, a chunk of its query heads. Inside it, tiles of queries ascend and so do blocks of
// keys, so every sum has one fixed order. Chunks of a key head are added in order when dk and dv are rounded.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    private static void BackwardCpu<T>(
        CpuStream stream, Tensor<T> dO, Tensor<T> qkv, Tensor<T> o, Tensor<float> lse, Tensor<T> dqkv,
        AttentionWorkspace workspace)
        where T : unmanaged
    {
        PackKeysValues(stream, qkv, workspace);
        var ends = workspace.CuSeqlens;
        var items = workspace.Items(ends.Length);
        var count = 0;
        for (var s = 0; s < ends.Length - 1; s++)
        {
            if (ends[s + 1] > ends[s])
            {
                items[count++] = Item(ends[s + 1] - ends[s], s);
            }
        }

        items.AsSpan(0, count).Sort();
        var chunks = workspace.KvHeads * Chunks(workspace.Heads, workspace.KvHeads);
        stream.For(count * chunks, 1, new BackwardJob<T>(dO, qkv, o, lse, dqkv, workspace, items));
        stream.For(qkv.Shape[0], RowsPerChunk, new SumChunksJob<T>(dqkv, workspace));
    }

    /// <summary>Where the gradient of a key head (values: from K on) summed over one chunk lies, at a token.</summary>
    private static ref float GradientRow(AttentionWorkspace workspace, int head, int chunk, int tokens, int token)
    {
        var chunks = Chunks(workspace.Heads, workspace.KvHeads);
        return ref Unsafe.Add(ref workspace.Gradients.Origin,
            (((((nint)head * chunks) + chunk) * tokens) + token) * Padded(workspace.HeadDim));
    }

    /// <summary>P = exp(S − lse) in place of S, dS = P ∘ (dP − D) in place of dP.</summary>
    private static void SoftmaxBackwardBlock(in Scratch scratch, int keys, int vectors, bool diagonal)
    {
        var lanes = Vector512<int>.Indices;
        for (var v = 0; v < vectors; v++)
        {
            var at = v * Lanes.Count;
            ref var scores = ref Unsafe.Add(ref scratch.P, at);
            ref var gradients = ref Unsafe.Add(ref scratch.DS, at);
            var end = diagonal ? Math.Min(keys, at + Lanes.Count) : keys;
            var free = diagonal ? Math.Min(keys, at + 1) : keys;
            var lse = Vector512.LoadUnsafe(ref scratch.Max, (nuint)at);
            var d = Vector512.LoadUnsafe(ref scratch.Norm, (nuint)at);
            for (var j = 0; j < free; j++)
            {
                var p = Exp(Vector512.LoadUnsafe(ref scores, (nuint)(j * Tile)) - lse);
                p.StoreUnsafe(ref scores, (nuint)(j * Tile));
                (p * (Vector512.LoadUnsafe(ref gradients, (nuint)(j * Tile)) - d)).StoreUnsafe(ref gradients, (nuint)(j * Tile));
            }

            for (var j = free; j < end; j++)
            {
                var seen = Vector512.GreaterThanOrEqual(lanes, Vector512.Create(j - at)).AsSingle();
                var p = seen & Exp(Vector512.LoadUnsafe(ref scores, (nuint)(j * Tile)) - lse);
                p.StoreUnsafe(ref scores, (nuint)(j * Tile));
                var ds = seen & (p * (Vector512.LoadUnsafe(ref gradients, (nuint)(j * Tile)) - d));
                ds.StoreUnsafe(ref gradients, (nuint)(j * Tile));
            }
        }
    }

    /// <summary>Sums over queries, per key: sum[j][h] (+)= Σ_i P[j][i] · rows[i][h]; on the diagonal, i ≥ j only.</summary>
    private static void SumOverQueries(
        in Scratch scratch, ref float scores, ref float rows, ref float sum, int keys, int queries, int padded, bool diagonal,
        bool accumulate)
    {
        var vectors = padded / Lanes.Count;
        for (var j = 0; j < keys; j += RowBlock)
        {
            var from = diagonal ? j : 0;
            ref var p = ref Unsafe.Add(ref scores, (j * Tile) + from);
            ref var b = ref Unsafe.Add(ref rows, from * padded);
            ref var c = ref Unsafe.Add(ref sum, (nint)j * padded);
            if (keys - j >= RowBlock)
            {
                Multiply(ref p, Tile, 1, ref b, padded, ref c, padded, queries - from, vectors, accumulate);
                continue;
            }

            var floats = (keys - j) * padded;                  // rows behind them belong to another sequence
            if (accumulate)
            {
                Copy(ref c, ref scratch.Rest, floats);
            }

            Multiply(ref p, Tile, 1, ref b, padded, ref scratch.Rest, padded, queries - from, vectors, accumulate);
            Copy(ref scratch.Rest, ref c, floats);
        }
    }

    private static void Copy(ref float from, ref float to, int floats)
    {
        for (var at = 0; at < floats; at += Lanes.Count)
        {
            Vector512.LoadUnsafe(ref from, (nuint)at).StoreUnsafe(ref to, (nuint)at);
        }
    }

    private readonly struct BackwardJob<T>(
        Tensor<T> dO, Tensor<T> qkv, Tensor<T> o, Tensor<float> lse, Tensor<T> dqkv, AttentionWorkspace workspace,
        long[] items) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var (kvHeads, group) = (workspace.KvHeads, workspace.Heads / workspace.KvHeads);
            var chunks = Chunks(workspace.Heads, kvHeads);
            for (var item = begin; item < end; item++)
            {
                var (length, sequence) = FromItem(items[item / (kvHeads * chunks)]);
                var start = workspace.CuSeqlens[sequence];
                var keyHead = item / chunks % kvHeads;
                var chunk = item % chunks;
                var last = Math.Min(group, (chunk + 1) * ChunkHeads);
                for (var member = chunk * ChunkHeads; member < last; member++)
                {
                    for (var first = 0; first < length; first += Tile)
                    {
                        RunTile(start, first, Math.Min(Tile, length - first), keyHead, (keyHead * group) + member, chunk,
                            member % ChunkHeads == 0, worker);
                    }
                }
            }
        }

        private void RunTile(int start, int first, int queries, int keyHead, int head, int chunk, bool firstHead, int worker)
        {
            var (headDim, kvHeads, tokens) = (workspace.HeadDim, workspace.KvHeads, qkv.Shape[0]);
            var padded = Padded(headDim);
            var scratch = new Scratch(workspace.Scratch, worker, padded);
            nint token = start + first;
            nint width = qkv.Shape.Columns;
            nint outWidth = o.Shape.Columns;
            var vectors = LoadTile(
                ref Unsafe.Add(ref qkv.Origin, (token * width) + (head * headDim)), width, ref scratch.RowsA, queries, headDim,
                Scale(headDim));
            _ = LoadTile(ref Unsafe.Add(ref dO.Origin, (token * outWidth) + (head * headDim)), outWidth, ref scratch.RowsB, queries,
                headDim, 1f);
            Transpose(ref scratch.RowsA, ref scratch.QueriesT, padded, vectors);
            Transpose(ref scratch.RowsB, ref scratch.GradientsT, padded, vectors);
            LoadStatistics(in scratch, token, queries, vectors, head);
            for (var j = 0; j <= first; j += Tile)
            {
                var diagonal = j == first;
                var keys = diagonal ? queries : Tile;
                ref var keyRows = ref KeyRow(workspace, keyHead, tokens, start + j);
                Scores(ref keyRows, ref scratch.QueriesT, ref scratch.P, keys, vectors, headDim, padded, diagonal);
                Scores(ref KeyRow(workspace, kvHeads + keyHead, tokens, start + j), ref scratch.GradientsT, ref scratch.DS, keys, vectors,
                    headDim, padded, diagonal);
                SoftmaxBackwardBlock(in scratch, keys, vectors, diagonal);
                var accumulate = !(firstHead && diagonal);         // the first queries to see these keys are their own tile
                SumOverQueries(
                    in scratch, ref scratch.P, ref scratch.RowsB, ref GradientRow(workspace, kvHeads + keyHead, chunk, tokens, start + j),
                    keys, queries, padded, diagonal, accumulate);
                SumOverQueries(
                    in scratch, ref scratch.DS, ref scratch.RowsA, ref GradientRow(workspace, keyHead, chunk, tokens, start + j), keys,
                    queries, padded, diagonal, accumulate);
                SumOverKeys(ref scratch.DS, ref keyRows, ref scratch.Sum, keys, queries, padded, diagonal, accumulate: j != 0);
            }

            for (var i = 0; i < queries; i++)
            {
                StoreHead(
                    ref Unsafe.Add(ref scratch.Sum, i * padded),
                    ref Unsafe.Add(ref dqkv.Origin, ((token + i) * width) + (head * headDim)), headDim, Scale(headDim));
            }
        }

        /// <summary>lse and D = do·o per query; queries that do not exist get lse = ∞, so that their probabilities are 0.</summary>
        private void LoadStatistics(in Scratch scratch, nint token, int queries, int vectors, int head)
        {
            var headDim = workspace.HeadDim;
            var padded = Padded(headDim);
            for (var i = 0; i < vectors * Lanes.Count; i++)
            {
                if (i >= queries)
                {
                    Unsafe.Add(ref scratch.Max, i) = float.PositiveInfinity;
                    Unsafe.Add(ref scratch.Norm, i) = 0;
                    continue;
                }

                ref var output = ref Unsafe.Add(ref o.Origin, ((token + i) * o.Shape.Columns) + (head * headDim));
                ref var gradient = ref Unsafe.Add(ref scratch.RowsB, i * padded);
                var sum = Vector512<float>.Zero;
                var h = 0;
                for (; h <= headDim - Lanes.Count; h += Lanes.Count)
                {
                    sum = Vector512.FusedMultiplyAdd(Vector512.LoadUnsafe(ref gradient, (nuint)h), Lanes.Load(ref output, (nuint)h), sum);
                }

                var rest = 0f;
                for (; h < headDim; h++)
                {
                    rest = MathF.FusedMultiplyAdd(Unsafe.Add(ref gradient, h), Lanes.Get(ref output, (nuint)h), rest);
                }

                Unsafe.Add(ref scratch.Max, i) = Unsafe.Add(ref lse.Origin, ((token + i) * workspace.Heads) + head);
                Unsafe.Add(ref scratch.Norm, i) = Vector512.Sum(sum) + rest;
            }
        }
    }

    /// <summary>dk and dv: the chunks of each key head added in order, rounded once.</summary>
    private readonly struct SumChunksJob<T>(Tensor<T> dqkv, AttentionWorkspace workspace) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var (headDim, kvHeads, tokens) = (workspace.HeadDim, workspace.KvHeads, dqkv.Shape[0]);
            var padded = Padded(headDim);
            var chunks = Chunks(workspace.Heads, kvHeads);
            for (var head = 0; head < 2 * kvHeads; head++)
            {
                for (var t = begin; t < end; t++)
                {
                    ref var sum = ref GradientRow(workspace, head, 0, tokens, t);
                    for (var chunk = 1; chunk < chunks; chunk++)
                    {
                        ref var part = ref GradientRow(workspace, head, chunk, tokens, t);
                        for (var h = 0; h < padded; h += Lanes.Count)
                        {
                            var both = Vector512.LoadUnsafe(ref sum, (nuint)h) + Vector512.LoadUnsafe(ref part, (nuint)h);
                            both.StoreUnsafe(ref sum, (nuint)h);
                        }
                    }

                    StoreHead(
                        ref sum, ref Unsafe.Add(ref dqkv.Origin, ((nint)t * dqkv.Shape.Columns) + ((workspace.Heads + head) * headDim)),
                        headDim, 1f);
                }
            }
        }
    }
}
