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
    /// <param name="workspace">with the T targets loaded; its Losses hold the loss of each loss token afterwards</param>
    /// <param name="dhidden">[T, D], overwritten; rows without a loss become zero; may be hidden</param>
    /// <param name="dweight">[V, D], accumulates</param>
    /// <param name="accumulate">false overwrites <paramref name="dweight"/></param>
    /// <param name="scale">of loss and gradients, usually 1 / loss tokens of the whole step</param>
    /// <param name="lossSum">[1], accumulates scale · Σ of the losses, nats; the sum in double in the order of the rows</param>
    /// <returns>loss tokens</returns>
    public static int HeadForwardBackward<T>(
        ComputeStream stream,
        Tensor<T> hidden,
        Tensor<T> weight,
        HeadWorkspace<T> workspace,
        Tensor<T> dhidden,
        Tensor<float> dweight,
        bool accumulate,
        float scale,
        Tensor<double> lossSum)
        where T : unmanaged
    {
        var rows = CheckHead(hidden, weight, workspace);
        Expect.Shape(dhidden, hidden.Shape[0], hidden.Shape[1]);
        Expect.Shape(dweight, weight.Shape[0], weight.Shape[1]);
        Expect.Shape(lossSum, 1);
        ClearRows(stream, workspace.Ignored.Rows(0, workspace.Tokens - rows), dhidden);
        if (rows == 0 && !accumulate)
        {
            Zero.Fill(stream, dweight);
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

        AddSum(stream, workspace.Losses.Rows(0, rows), lossSum, scale);
        return rows;
    }

    /// <summary>The losses alone, for evaluation: the same numbers as <see cref="HeadForwardBackward"/>.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="hidden">[T, D]</param>
    /// <param name="weight">[V, D]</param>
    /// <param name="workspace">with the T targets loaded</param>
    /// <param name="losses">[T], nats; 0 where there is no loss</param>
    /// <param name="lossSum">[1], accumulates their sum, nats; in double in the order of the rows</param>
    /// <returns>loss tokens</returns>
    public static int HeadForward<T>(
        ComputeStream stream,
        Tensor<T> hidden,
        Tensor<T> weight,
        HeadWorkspace<T> workspace,
        Tensor<float> losses,
        Tensor<double> lossSum)
        where T : unmanaged
    {
        var rows = CheckHead(hidden, weight, workspace);
        Expect.Shape(losses, hidden.Shape[0]);
        Expect.Shape(lossSum, 1);
        for (var first = 0; first < rows; first += workspace.ChunkRows)
        {
            var (_, padded) = Chunk(workspace, first, rows);
            var (x, logits) = (workspace.Hidden.Rows(0, padded), workspace.Logits.Rows(0, padded));
            Gather(stream, hidden, workspace.Rows.Rows(first, padded), x);
            Matmul.Forward(stream, x, weight, default, logits);
            RowLosses(stream, logits, workspace.Targets.Rows(first, padded), workspace.Losses.Rows(first, padded));
        }

        Spread(stream, workspace.Losses.Rows(0, rows), workspace.Rows.Rows(0, rows), losses);
        AddSum(stream, workspace.Losses.Rows(0, rows), lossSum, 1);
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

    private static int CheckHead<T>(Tensor<T> hidden, Tensor<T> weight, HeadWorkspace<T> workspace)
        where T : unmanaged
    {
        var (tokens, columns) = (hidden.Shape[0], hidden.Shape[1]);
        Expect.Shape(hidden, tokens, columns);
        Expect.Shape(weight, workspace.Logits.Shape[1], columns);
        Expect.That(columns == workspace.Hidden.Shape[1], "the workspace was declared for another hidden size");
        Expect.That(tokens == workspace.Tokens, "hidden must have as many rows as the workspace has targets loaded");
        return workspace.LossRows;
    }

    /// <summary>Loss rows of the chunk from <paramref name="first"/>, and with the padding that lets GEMM meet few distinct sizes: padding rows
    /// repeat row 0 and have no target, so their loss and their gradient are zero.</summary>
    private static (int Count, int Padded) Chunk<T>(HeadWorkspace<T> workspace, int first, int rows)
        where T : unmanaged
    {
        var count = Math.Min(workspace.ChunkRows, rows - first);
        return (count, Math.Min(Matmul.RoundRows(count), Math.Min(workspace.ChunkRows, workspace.MaxTokens - first)));
    }

    /// <summary>to[i] = from[rows[i]].</summary>
    private static void Gather<T>(ComputeStream stream, Tensor<T> from, Tensor<int> rows, Tensor<T> to)
        where T : unmanaged
    {
        if (stream is CpuStream cpu)
        {
            GatherCpu(cpu, from, rows, to);
        }
        else if (stream is CudaStream cuda)
        {
            Embedding.ForwardCuda(cuda, rows, from, to);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>to[rows[i]] = from[i].</summary>
    private static void Scatter<T>(ComputeStream stream, Tensor<T> from, Tensor<int> rows, Tensor<T> to)
        where T : unmanaged
    {
        if (stream is CpuStream cpu)
        {
            ScatterCpu(cpu, from, rows, to);
        }
        else if (stream is CudaStream cuda)
        {
            ScatterCuda(cuda, from, rows, to);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>tensor[rows[i]] = 0.</summary>
    private static void ClearRows<T>(ComputeStream stream, Tensor<int> rows, Tensor<T> tensor)
        where T : unmanaged
    {
        if (stream is CpuStream cpu)
        {
            ClearRowsCpu(cpu, rows, tensor);
        }
        else if (stream is CudaStream cuda)
        {
            ClearRowsCuda(cuda, rows, tensor);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>perToken[rows[i]] = losses[i], 0 elsewhere.</summary>
    private static void Spread(ComputeStream stream, Tensor<float> losses, Tensor<int> rows, Tensor<float> perToken)
    {
        Zero.Fill(stream, perToken);
        if (stream is CpuStream)
        {
            SpreadCpu(losses, rows, perToken);
        }
        else if (stream is CudaStream cuda)
        {
            SpreadCuda(cuda, losses, rows, perToken);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>lossSum[0] += scale · Σ losses.</summary>
    private static void AddSum(ComputeStream stream, Tensor<float> losses, Tensor<double> lossSum, float scale)
    {
        if (stream is CpuStream)
        {
            AddSumCpu(losses, lossSum, scale);
        }
        else if (stream is CudaStream cuda)
        {
            AddSumCuda(cuda, losses, lossSum, scale);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }
}
