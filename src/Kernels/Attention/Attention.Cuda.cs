// Launches of native/kernels/Attention.cu: grids and parameters. Which tile sizes, and the shared memory they take, is AttentionVariant's.
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    /// <summary>Every entry point under the untuned constants of the head dims of the models: Qwen2.5-Coder has 64 and 128, the test models 16.</summary>
    internal static IEnumerable<CudaKernel> CudaKernels => new[] { 16, 64, 128 }.SelectMany(h => AttentionVariant.Default(h).Kernels);

    private static unsafe void ForwardCuda(
        CudaStream stream, Tensor<BFloat16> qkv, Tensor<BFloat16> o, Tensor<float> lse, AttentionWorkspace workspace)
    {
        Expect.On(stream, qkv);
        Expect.On(stream, o);
        Expect.On(stream, lse);
        var (variant, tiles) = (workspace.Variant!, workspace.QueryTiles!);
        var blocks = tiles.Blocks(stream);
        if (blocks == 0)
        {
            return;
        }

        if (workspace.UsesHopper)
        {
            workspace.Hopper!.Forward(stream, qkv, o, lse, workspace);
            return;
        }

        var parameters = new ForwardParams
        {
            Qkv = qkv.Pointer,
            O = o.Pointer,
            Lse = lse.Pointer,
            Tiles = tiles.Tiles.Pointer,
            Heads = workspace.Heads,
            KvHeads = workspace.KvHeads,
            Scale = Scale(workspace.HeadDim),
        };
        stream.Launch(variant.Forward, new(checked(blocks * workspace.Heads)), AttentionVariant.Threads, parameters, variant.ForwardBytes);
    }

    /// <summary>The gradients of the keys come first: they may read all queries, and are written beside qkv when dqkv lies over it. Then
    /// those of the queries, whose blocks read no queries but their own; then, where dqkv is qkv, the former are put in their place.</summary>
    private static unsafe void BackwardCuda(
        CudaStream stream, Tensor<BFloat16> dO, Tensor<BFloat16> qkv, Tensor<BFloat16> o, Tensor<float> lse, Tensor<BFloat16> dqkv,
        AttentionWorkspace workspace)
    {
        Expect.On(stream, dO);
        Expect.On(stream, qkv);
        Expect.On(stream, o);
        Expect.On(stream, lse);
        Expect.On(stream, dqkv);
        var variant = workspace.Variant!;
        var (heads, kvHeads, headDim, tokens) = (workspace.Heads, workspace.KvHeads, workspace.HeadDim, qkv.Shape[0]);
        if (tokens == 0)
        {
            return;
        }

        var rows = (long)tokens * heads;
        var delta = new DeltaParams { DO = dO.Pointer, O = o.Pointer, Delta = workspace.Delta.Pointer, Rows = rows };
        const int RowsPerBlock = AttentionVariant.Threads / 16;
        stream.Launch(variant.Delta, new(checked((int)((rows + RowsPerBlock - 1) / RowsPerBlock))), AttentionVariant.Threads, delta);

        var hopper = workspace.UsesHopper;
        var inPlace = dqkv.Pointer == qkv.Pointer && !(hopper && workspace.HopperSplits > 1);   // parts lie beside qkv already
        var columns = qkv.Shape.Columns;
        var keysAt = inPlace ? workspace.KeyValueGradients.Pointer : dqkv.Pointer + (heads * headDim);
        var dkvStride = inPlace ? 2 * kvHeads * headDim : columns;
        if (hopper)
        {
            workspace.Hopper!.Backward(stream, dO, qkv, lse, dqkv.Pointer, keysAt, keysAt + (kvHeads * headDim), dkvStride, workspace);
        }
        else
        {
            var parameters = new BackwardParams
            {
                DO = dO.Pointer,
                Qkv = qkv.Pointer,
                Lse = lse.Pointer,
                Delta = workspace.Delta.Pointer,
                Dq = dqkv.Pointer,
                Dk = keysAt,
                Dv = keysAt + (kvHeads * headDim),
                Tiles = workspace.KeyTiles!.Tiles.Pointer,
                DqStride = columns,
                DkvStride = dkvStride,
                Heads = heads,
                KvHeads = kvHeads,
                Scale = Scale(headDim),
            };
            stream.Launch(
                variant.BackwardKeys, new(checked(workspace.KeyTiles.Blocks(stream) * kvHeads)), AttentionVariant.Threads, parameters,
                variant.BackwardKeysBytes);
            parameters.Tiles = workspace.BackwardQueryTiles!.Tiles.Pointer;
            stream.Launch(
                variant.BackwardQueries, new(checked(workspace.BackwardQueryTiles.Blocks(stream) * heads)), AttentionVariant.Threads, parameters,
                variant.BackwardQueriesBytes);
        }

        if (inPlace)
        {
            var copy = new CopyParams
            {
                From = workspace.KeyValueGradients.Pointer,
                To = dqkv.Pointer + (heads * headDim),
                ToStride = columns,
                Columns = 2 * kvHeads * headDim,
            };
            stream.Launch(variant.Copy, new(tokens), AttentionVariant.Threads, copy);
        }
    }

    private static unsafe void AppendToCacheCuda(
        CudaStream stream, Tensor<BFloat16> qkv, Tensor<int> pages, Tensor<int> offsets, Tensor<BFloat16> kPages, Tensor<BFloat16> vPages,
        int heads, int kvHeads, int headDim)
    {
        Expect.On(stream, qkv);
        Expect.On(stream, pages);
        Expect.On(stream, offsets);
        Expect.On(stream, kPages);
        Expect.On(stream, vPages);
        if (qkv.Shape[0] == 0)
        {
            return;
        }

        var parameters = new AppendParams
        {
            Qkv = qkv.Pointer,
            Pages = pages.Pointer,
            Offsets = offsets.Pointer,
            KPages = kPages.Pointer,
            VPages = vPages.Pointer,
            Heads = heads,
            KvHeads = kvHeads,
            PageTokens = kPages.Shape[1],
        };
        stream.Launch(AttentionVariant.Of(headDim).Append, new(qkv.Shape[0]), AttentionVariant.Threads, parameters);
    }

    private unsafe struct ForwardParams
    {
        public BFloat16* Qkv, O;
        public float* Lse;
        public int* Tiles;
        public int Heads, KvHeads;
        public float Scale;
    }

    private unsafe struct DeltaParams
    {
        public BFloat16* DO, O;
        public float* Delta;
        public long Rows;
    }

    private unsafe struct BackwardParams
    {
        public BFloat16* DO, Qkv;
        public float* Lse, Delta;
        public BFloat16* Dq, Dk, Dv;
        public int* Tiles;
        public long DqStride, DkvStride;
        public int Heads, KvHeads;
        public float Scale;
    }

    private unsafe struct AppendParams
    {
        public BFloat16* Qkv;
        public int* Pages, Offsets;
        public BFloat16* KPages, VPages;
        public int Heads, KvHeads, PageTokens;
    }

    private unsafe struct CopyParams
    {
        public BFloat16* From, To;
        public long ToStride;
        public int Columns;
    }
}
