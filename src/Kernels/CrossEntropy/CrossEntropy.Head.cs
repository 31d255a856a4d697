using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class CrossEntropy
{
    /// <summary>
    /// The LM head with its loss and both gradients in one pass: logits = hidden · weightᵀ, <see cref="Rows"/>, dhidden = dlogits · weight,
    /// dweight += dlogitsᵀ · hidden. Only rows whose target has a loss are gathered and computed, R0 at a time; no [T, V] tensor exists.
    /// The logits are rounded to T before the loss, as HF does.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="hidden">[T, D]</param>
    /// <param name="weight">[V, D]</param>
    /// <param name="targets">[T], in [0, V) or <see cref="IgnoreIndex"/></param>
    /// <param name="workspace">for at least T tokens; its Losses hold the loss of each loss token afterwards</param>
    /// <param name="dhidden">[T, D], overwritten; rows without a loss become zero; may be hidden</param>
    /// <param name="dweight">[V, D], accumulates</param>
    /// <param name="accumulate">false overwrites <paramref name="dweight"/></param>
    /// <param name="scale">of the gradients, usually 1 / loss tokens of the whole step</param>
    /// <param name="lossSum">Σ of the losses, nats, not scaled; added in double in the order of the rows</param>
    /// <returns>loss tokens</returns>
    /// <exception cref="ArgumentOutOfRangeException">a target out of range; no output has been written</exception>
    public static int HeadForwardBackward<T>(
        ComputeStream stream,
        Tensor<T> hidden,
        Tensor<T> weight,
        Tensor<int> targets,
        HeadWorkspace<T> workspace,
        Tensor<T> dhidden,
        Tensor<float> dweight,
        bool accumulate,
        float scale,
        out double lossSum)
        where T : unmanaged
    {
        var rows = PrepareHead(hidden, weight, targets, workspace);
        Expect.Shape(dhidden, hidden.Shape[0], hidden.Shape[1]);
        Expect.Shape(dweight, weight.Shape[0], weight.Shape[1]);
        ClearIgnored(stream, targets, dhidden);
        if (rows == 0 && !accumulate)
        {
            Clear(stream, dweight);
        }

        for (var first = 0; first < rows; first += workspace.ChunkRows)
        {
            var (count, padded) = Chunk(workspace, first, rows);
            var index = workspace.Rows.Rows(first, padded);
            var (x, logits, dx) = (workspace.Hidden.Rows(0, padded), workspace.Logits.Rows(0, padded), workspace.DHidden.Rows(0, padded));
            Gather(stream, hidden, index, x);
            Matmul.Forward(stream, x, weight, default, logits);
            Rows(stream, logits, workspace.Targets.Rows(first, padded), workspace.Losses.Rows(first, padded), scale);
            Matmul.BackwardInput(stream, logits, weight, dx);
            Matmul.BackwardWeight(stream, logits, x, dweight, accumulate || first > 0);
            Scatter(stream, dx.Rows(0, count), index.Rows(0, count), dhidden);
        }

        lossSum = SumInOrder(stream, workspace.Losses, rows);
        return rows;
    }

    /// <summary>The losses alone, for evaluation: the same numbers as <see cref="HeadForwardBackward"/>.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="hidden">[T, D]</param>
    /// <param name="weight">[V, D]</param>
    /// <param name="targets">[T], in [0, V) or <see cref="IgnoreIndex"/></param>
    /// <param name="workspace">for at least T tokens</param>
    /// <param name="losses">[T], nats; 0 where there is no loss</param>
    /// <param name="lossSum">their sum, added in double in the order of the rows</param>
    /// <returns>loss tokens</returns>
    /// <exception cref="ArgumentOutOfRangeException">a target out of range; no output has been written</exception>
    public static int HeadForward<T>(
        ComputeStream stream,
        Tensor<T> hidden,
        Tensor<T> weight,
        Tensor<int> targets,
        HeadWorkspace<T> workspace,
        Tensor<float> losses,
        out double lossSum)
        where T : unmanaged
    {
        var rows = PrepareHead(hidden, weight, targets, workspace);
        Expect.Shape(losses, hidden.Shape[0]);
        for (var first = 0; first < rows; first += workspace.ChunkRows)
        {
            var (_, padded) = Chunk(workspace, first, rows);
            var (x, logits) = (workspace.Hidden.Rows(0, padded), workspace.Logits.Rows(0, padded));
            Gather(stream, hidden, workspace.Rows.Rows(first, padded), x);
            Matmul.Forward(stream, x, weight, default, logits);
            RowLosses(stream, logits, workspace.Targets.Rows(first, padded), workspace.Losses.Rows(first, padded));
        }

        Spread(stream, workspace.Losses, workspace.Rows, rows, losses);
        lossSum = SumInOrder(stream, workspace.Losses, rows);
        return rows;
    }

    /// <summary>Three matrix products over the loss rows; the weight is read once per chunk and product, its gradient read and written.</summary>
    public static Cost HeadCost<T>(long lossRows, long chunkRows, long hidden, long vocabulary)
        where T : unmanaged
    {
        var chunks = (lossRows + chunkRows - 1) / chunkRows;
        var size = System.Runtime.CompilerServices.Unsafe.SizeOf<T>();
        return RowsCost<T>(lossRows, vocabulary) + new Cost(
            (chunks * vocabulary * hidden * ((2 * size) + 8)) + (4 * lossRows * hidden * size), 6 * lossRows * hidden * vocabulary);
    }

    private static int PrepareHead<T>(Tensor<T> hidden, Tensor<T> weight, Tensor<int> targets, HeadWorkspace<T> workspace)
        where T : unmanaged
    {
        var (tokens, columns) = (hidden.Shape[0], hidden.Shape[1]);
        Expect.Shape(hidden, tokens, columns);
        Expect.Shape(weight, workspace.Logits.Shape[1], columns);
        Expect.Shape(targets, tokens);
        Expect.That(columns == workspace.Hidden.Shape[1], "the workspace was declared for another hidden size");
        Expect.That(tokens <= workspace.Rows.Shape[0], "the workspace was declared for fewer tokens");
        CheckTargets(targets, weight.Shape[0]);
        return IndexLossRows(targets.Span, workspace.Rows.Span, workspace.Targets.Span);
    }

    /// <summary>Loss rows of the chunk from <paramref name="first"/>, and with the padding that lets GEMM meet few distinct sizes: padding rows
    /// repeat row 0 and have no target, so their loss and their gradient are zero.</summary>
    private static (int Count, int Padded) Chunk<T>(HeadWorkspace<T> workspace, int first, int rows)
        where T : unmanaged
    {
        var count = Math.Min(workspace.ChunkRows, rows - first);
        return (count, Math.Min(Matmul.RoundRows(count), Math.Min(workspace.ChunkRows, workspace.Rows.Shape[0] - first)));
    }

    private static int IndexLossRows(ReadOnlySpan<int> targets, Span<int> rows, Span<int> kept)
    {
        var count = 0;
        for (var t = 0; t < targets.Length; t++)
        {
            if (targets[t] != IgnoreIndex)
            {
                rows[count] = t;
                kept[count++] = targets[t];
            }
        }

        rows[count..].Clear();
        kept[count..].Fill(IgnoreIndex);

        return count;
    }
}
