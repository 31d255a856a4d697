// Launches of the paged kernels of native/kernels/Attention.cu.
using System.Numerics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    /// <summary>Splits of the keys of one row of a decode pass of <see cref="Paged"/> at most; how many there are depends on the row's position
    /// alone.</summary>
    internal const int PagedSplits = 16;

    /// <summary>Floats per query head, row and split between the two kernels of a decode pass of <see cref="Paged"/>.</summary>
    internal static int SplitFloats(int headDim) => headDim + 4;

    private static unsafe void PagedCuda(
        CudaStream stream, Tensor<BFloat16> q, Tensor<BFloat16> kPages, Tensor<BFloat16> vPages, Tensor<int> pageTable, Tensor<BFloat16> o,
        AttentionWorkspace workspace)
    {
        Expect.On(stream, q);
        Expect.On(stream, kPages);
        Expect.On(stream, vPages);
        Expect.On(stream, pageTable);
        Expect.On(stream, o);
        Expect.That(BitOperations.IsPow2(kPages.Shape[1]), "on a device the tokens of a page must be a power of two");
        var (variant, tiles, heads) = (workspace.Variant!, workspace.PagedTiles!, workspace.Heads);
        var blocks = tiles.Blocks(stream);
        if (blocks == 0)
        {
            return;
        }

        var parameters = new PagedParams
        {
            Q = q.Pointer,
            KPages = kPages.Pointer,
            VPages = vPages.Pointer,
            Table = pageTable.Pointer,
            Tiles = tiles.Tiles.Pointer,
            O = o.Pointer,
            Parts = workspace.PagedParts.Pointer,
            QStride = q.Shape.Columns,
            Heads = heads,
            KvHeads = workspace.KvHeads,
            TableStride = pageTable.Shape[1],
            PageShift = BitOperations.Log2((uint)kPages.Shape[1]),
            Splits = PagedSplits,
            Scale = Scale(workspace.HeadDim),
        };
        if (!workspace.PagedDecode)
        {
            stream.Launch(variant.Paged, new(checked(blocks * heads)), AttentionVariant.Threads, parameters, variant.PagedBytes);
            return;
        }

        blocks = Math.Min(blocks, workspace.MaxPagedSequences);                // a tile is a row of its own sequence
        var groups = ((heads / workspace.KvHeads) + AttentionVariant.DecodeHeads - 1) / AttentionVariant.DecodeHeads;
        stream.Launch(
            variant.PagedDecode, new(checked(blocks * workspace.KvHeads * groups), PagedSplits), AttentionVariant.Threads, parameters,
            variant.DecodeBytes);
        stream.Launch(variant.PagedMerge, new(checked(blocks * heads)), AttentionVariant.Threads, parameters);
    }

    private unsafe struct PagedParams
    {
        public BFloat16* Q, KPages, VPages;
        public int* Table, Tiles;
        public BFloat16* O;
        public float* Parts;
        public long QStride;
        public int Heads, KvHeads, TableStride, PageShift, Splits;
        public float Scale;
    }
}
