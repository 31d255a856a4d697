// Work item: one key head, one tile of rows of one sequence with all query heads of the key head as columns, row by row: what is loaded of
// the pages once serves up to 64 queries. Key blocks begin at positions 0, 64, 128, … of the sequence, each is summed key after key, and a key
// that a query may not see adds exactly 0 to its sums: so no other column, nor where the tile began, shows in its bits.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    /// <summary>Rows of a tile of <see cref="Paged"/> on the CPU.</summary>
    internal static int PagedTileRows(int heads, int kvHeads) => Math.Max(1, Tile / (heads / kvHeads));

    private static void PagedCpu<T>(
        CpuStream stream, Tensor<T> q, Tensor<T> kPages, Tensor<T> vPages, Tensor<int> pageTable, Tensor<T> o, AttentionWorkspace workspace)
        where T : unmanaged =>
        stream.For(workspace.PagedTiles!.Count * workspace.KvHeads, 1, new PagedJob<T>(q, kPages, vPages, pageTable, o, workspace));

    /// <summary>As <see cref="SoftmaxBlock"/>, with a position per column: key j of the block, at position <paramref name="begin"/> + j, is
    /// seen by the columns whose position is not before it. Probabilities are written up to the last key that a column of the vector
    /// sees.</summary>
    private static void PagedSoftmax(in Scratch scratch, ref int positions, int begin, int keys, int vectors, bool first)
    {
        for (var v = 0; v < vectors; v++)
        {
            var at = v * Lanes.Count;
            var position = Vector512.LoadUnsafe(ref positions, (nuint)at);
            var end = Math.Clamp(Unsafe.Add(ref positions, at + Lanes.Count - 1) + 1 - begin, 0, keys);
            var free = Math.Clamp(Unsafe.Add(ref positions, at) + 1 - begin, 0, keys);       // rows that every query of the vector sees
            SoftmaxVector(in scratch, at, free, end, position - Vector512.Create(begin), first);
        }
    }

    private readonly partial struct PagedJob<T>(
        Tensor<T> q, Tensor<T> kPages, Tensor<T> vPages, Tensor<int> pageTable, Tensor<T> o, AttentionWorkspace workspace) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var (group, kvHeads) = (workspace.Heads / workspace.KvHeads, workspace.KvHeads);
            for (var item = begin; item < end; item++)
            {
                var tile = workspace.PagedTiles![item / kvHeads];
                var (row, rows, position, sequence) = (tile[0], tile[1], tile[2], tile[3]);
                for (var first = 0; first < group; first += Tile)              // a group of more than a tile comes one row at a time
                {
                    var heads = Math.Min(Tile, group - first);
                    var (keyHead, head) = (item % kvHeads, (item % kvHeads * group) + first);
                    if (rows == 1 && heads <= RowHeads)
                    {
                        RunRow(row, position, sequence, keyHead, head, heads, worker);
                    }
                    else
                    {
                        RunTile(row, rows, position, sequence, keyHead, head, heads, worker);
                    }
                }
            }
        }

        private void RunTile(int firstRow, int rows, int position, int sequence, int keyHead, int head, int heads, int worker)
        {
            var headDim = workspace.HeadDim;
            var padded = Padded(headDim);
            var scratch = new Scratch(workspace.Scratch, worker, padded);
            ref var positions = ref Unsafe.As<float, int>(ref scratch.GradientsT);            // free outside backward
            var columns = rows * heads;
            var vectors = LoadQueries(ref scratch.RowsA, ref positions, firstRow, rows, position, head, heads);
            Transpose(ref scratch.RowsA, ref scratch.QueriesT, padded, vectors);
            var length = position + rows;
            for (var begin = 0; begin < length; begin += Tile)
            {
                var keys = Math.Min(Tile, length - begin);
                LoadRows(kPages, ref scratch.RowsA, sequence, keyHead, begin, keys, padded);
                LoadRows(vPages, ref scratch.RowsB, sequence, keyHead, begin, keys, padded);
                Scores(ref scratch.RowsA, ref scratch.QueriesT, ref scratch.P, keys, vectors, headDim, padded, diagonal: false);
                PagedSoftmax(in scratch, ref positions, begin, keys, vectors, first: begin == 0);
                AddValues(in scratch, ref positions, begin, keys, columns, padded);
            }

            StoreSums(in scratch, firstRow, head, heads, columns, padded);
        }

        /// <summary>Sums over norms; column c is head c mod heads of row c / heads.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private void StoreSums(in Scratch scratch, int firstRow, int head, int heads, int columns, int padded)
        {
            var headDim = workspace.HeadDim;
            for (var c = 0; c < columns; c++)
            {
                // Sums are multiplied by 1/norm with 0 added: whether keys that were not seen added +0 or −0 to a sum of −0 is lost.
                ref var sum = ref Unsafe.Add(ref scratch.Sum, c * padded);
                var inverse = Vector512.Create(1 / Unsafe.Add(ref scratch.Norm, c));
                for (var h = 0; h < padded; h += Lanes.Count)
                {
                    Vector512.FusedMultiplyAdd(Vector512.LoadUnsafe(ref sum, (nuint)h), inverse, Vector512<float>.Zero)
                        .StoreUnsafe(ref sum, (nuint)h);
                }

                var at = ((nint)(firstRow + (c / heads)) * o.Shape.Columns) + ((head + (c % heads)) * headDim);
                StoreHead(ref sum, ref Unsafe.Add(ref o.Origin, at), headDim, 1f);
            }
        }

        /// <summary>Column c is head c mod heads of row c / heads; columns up to whole vectors are zero, at the last position.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private int LoadQueries(ref float to, ref int positions, int firstRow, int rows, int position, int head, int heads)
        {
            var headDim = workspace.HeadDim;
            var padded = Padded(headDim);
            var scale = Scale(headDim);
            var column = 0;
            for (var r = 0; r < rows; r++)
            {
                ref var from = ref Unsafe.Add(ref q.Origin, ((nint)(firstRow + r) * q.Shape.Columns) + (head * headDim));
                for (var h = 0; h < heads; h++, column++)
                {
                    LoadHead(ref Unsafe.Add(ref from, h * headDim), ref Unsafe.Add(ref to, column * padded), headDim, scale);
                    Unsafe.Add(ref positions, column) = position + r;
                }
            }

            var vectors = (column + Lanes.Count - 1) / Lanes.Count;
            for (; column < vectors * Lanes.Count; column++)
            {
                Unsafe.Add(ref positions, column) = position + rows - 1;
                for (var h = 0; h < padded; h += Lanes.Count)
                {
                    Vector512<float>.Zero.StoreUnsafe(ref Unsafe.Add(ref to, column * padded), (nuint)h);
                }
            }

            return vectors;
        }

        /// <summary>The row of a key head at a position of a sequence; <paramref name="left"/>: rows from there to the end of its page.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private ref T PageRow(Tensor<T> pages, int sequence, int keyHead, int position, out int left)
        {
            var pageTokens = pages.Shape[1];
            var (page, offset) = Math.DivRem(position, pageTokens);
            left = pageTokens - offset;
            var row = ((nint)pageTable.Row(sequence)[page] * pageTokens) + offset;
            return ref Unsafe.Add(ref pages.Origin, (row * pages.Shape.Columns) + (keyHead * workspace.HeadDim));
        }

        /// <summary>Keys, or values, of one block as float.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private void LoadRows(Tensor<T> pages, ref float to, int sequence, int keyHead, int begin, int keys, int padded)
        {
            var headDim = workspace.HeadDim;
            for (var i = 0; i < keys;)
            {
                ref var row = ref PageRow(pages, sequence, keyHead, begin + i, out var left);
                for (var end = Math.Min(keys, i + left); i < end; i++)
                {
                    LoadHead(ref row, ref Unsafe.Add(ref to, i * padded), headDim, 1f);
                    row = ref Unsafe.Add(ref row, pages.Shape.Columns);
                }
            }
        }

        /// <summary>The sums so far times their rescale, then Σ_j p_j · v_j over the keys of the block that one of four columns sees.</summary>
        private static void AddValues(in Scratch scratch, ref int positions, int begin, int keys, int columns, int padded)
        {
            if (begin != 0)
            {
                RescaleSums(in scratch, columns, padded);
            }

            for (var c = 0; c < columns; c += RowBlock)
            {
                var count = Math.Min(keys, Unsafe.Add(ref positions, c + RowBlock - 1) + 1 - begin);
                if (count > 0)
                {
                    Multiply(
                        ref Unsafe.Add(ref scratch.P, c), 1, Tile, ref scratch.RowsB, padded, ref Unsafe.Add(ref scratch.Sum, c * padded),
                        padded, count, padded / Lanes.Count, accumulate: begin != 0);
                }
            }
        }

        private static void RescaleSums(in Scratch scratch, int columns, int padded)
        {
            for (var c = 0; c < columns; c++)
            {
                var rescale = Unsafe.Add(ref scratch.Rescale, c);
                if (rescale == 1)
                {
                    continue;
                }

                ref var row = ref Unsafe.Add(ref scratch.Sum, c * padded);
                for (var h = 0; h < padded; h += Lanes.Count)
                {
                    (Vector512.LoadUnsafe(ref row, (nuint)h) * rescale).StoreUnsafe(ref row, (nuint)h);
                }
            }
        }
    }
}
