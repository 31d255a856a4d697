// Shape letters: R rows of a pass, S sequences, N query heads, K key/value heads, H head dim.
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    /// <summary>
    /// Attention of new rows of several sequences to keys and values in pages: o_i = Σ_{j≤i} p_ij v_j, p_ij = exp(q_i·k_j / √H − lse_i), i a
    /// row's position in its sequence, j = 0 .. i, the row's own key included (<see cref="AppendToCache"/> first). Token j of sequence s
    /// lies in page pageTable[s, j / pageTokens] at j mod pageTokens: Kwon et al. 2023, arXiv:2309.06180. The rows are those of
    /// <see cref="AttentionWorkspace.LoadPaged"/>: new tokens, prompts, parts of prompts.
    /// </summary>
    /// <remarks>
    /// The bits of a row depend on its query and on the keys and values of its sequence up to its position, and on nothing else: not on how
    /// a prompt was cut into passes, the other rows and sequences of the pass, the page numbers or the number of workers. On a device they also
    /// depend on the form that was loaded, prompt or decode. All this where keys and values are finite: a value that a row does not see is
    /// multiplied by 0 in company of one that sees it. Nothing beyond the last position of a sequence is read, so pages may hold anything
    /// there. Rows of q that belong to no sequence are not read, and those of o are left as they are.
    /// </remarks>
    /// <param name="stream">where it runs</param>
    /// <param name="q">[R, N · H], or the whole rows [R, (N + 2K) · H], of which the first N · H elements are read; R may be more than the rows
    /// loaded</param>
    /// <param name="kPages">[pages, pageTokens, K · H]; on a device pageTokens is a power of two</param>
    /// <param name="vPages">[pages, pageTokens, K · H]</param>
    /// <param name="pageTable">[≥ S, pages of a sequence]; what lies after a sequence's last position is not read. In device memory it is not
    /// checked here: who wrote it there has</param>
    /// <param name="o">[R, N · H]</param>
    /// <param name="heads">N, a multiple of K</param>
    /// <param name="kvHeads">K</param>
    /// <param name="headDim">H</param>
    /// <param name="workspace">declared with pagedRows, loaded with the rows of the pass</param>
    public static void Paged<T>(
        ComputeStream stream, Tensor<T> q, Tensor<T> kPages, Tensor<T> vPages, Tensor<int> pageTable, Tensor<T> o, int heads, int kvHeads,
        int headDim, AttentionWorkspace workspace)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(workspace);
        CheckHeads(heads, kvHeads, headDim);
        var rows = q.Shape[0];
        Expect.Shape(q, rows, q.Shape.Columns == heads * headDim ? heads * headDim : (heads + (2 * kvHeads)) * headDim);
        Expect.Shape(o, rows, heads * headDim);
        CheckPages(kPages, vPages, kvHeads, headDim);
        workspace.CheckPaged(stream, rows, heads, kvHeads, headDim);
        Expect.That(
            pageTable.Shape.Rank == 2 && pageTable.Shape[0] >= workspace.PagedEnds.Length,
            "pageTable must have shape [sequences, pages of a sequence]");
        foreach (var end in workspace.PagedEnds)
        {
            if (end > (long)pageTable.Shape[1] * kPages.Shape[1])              // the message is made only when it is needed
            {
                throw new ArgumentException($"pageTable has {pageTable.Shape[1]} pages of {kPages.Shape[1]} tokens; a sequence has {end} tokens");
            }
        }

        if (stream is CpuStream cpu)
        {
            for (var s = 0; s < workspace.PagedEnds.Length; s++)
            {
                var used = (workspace.PagedEnds[s] + kPages.Shape[1] - 1) / kPages.Shape[1];
                CheckIndices(pageTable.Row(s)[..used], kPages.Shape[0], "pageTable must name pages of the cache");
            }

            PagedCpu(cpu, q, kPages, vPages, pageTable, o, workspace);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Attention.Paged");
            PagedCuda(cuda, q.As<BFloat16>(), kPages.As<BFloat16>(), vPages.As<BFloat16>(), pageTable, o.As<BFloat16>(), workspace);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Two products per query and key that it sees: 4 · H · N · Σ (position + 1) flops; the keys and values of each sequence with rows
    /// are read once, q is read and o written.</summary>
    /// <param name="rowStarts">[S + 1], as given to <see cref="AttentionWorkspace.LoadPaged"/></param>
    /// <param name="contexts">[S]</param>
    /// <param name="heads">N</param>
    /// <param name="kvHeads">K</param>
    /// <param name="headDim">H</param>
    /// <param name="elementBytes">bytes of an element</param>
    public static Cost PagedCost(
        ReadOnlySpan<int> rowStarts, ReadOnlySpan<int> contexts, int heads, int kvHeads, int headDim, int elementBytes)
    {
        long present = 0, pairs = 0, all = 0;
        for (var s = 0; s < contexts.Length; s++)
        {
            long rows = rowStarts[s + 1] - rowStarts[s];
            present += rows == 0 ? 0 : contexts[s] + rows;
            pairs += (rows * contexts[s]) + (rows * (rows + 1) / 2);
            all += rows;
        }

        return new(((2 * present * kvHeads) + (2 * all * heads)) * headDim * elementBytes, 4 * pairs * heads * headDim);
    }
}
