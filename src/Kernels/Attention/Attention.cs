// Shape letters: T packed tokens, S sequences, N query heads, K key/value heads, H head dim.
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// Causal softmax attention over packed sequences of any length: o_i = Σ_{j≤i} p_ij v_j with p_ij = exp(s_ij − lse_i),
/// s_ij = q_i·k_j / √H, lse_i = log Σ_{j≤i} exp(s_ij), i and j in the same sequence. Query heads n·N/K .. (n+1)·N/K − 1 share key/value
/// head n. The T × T scores never exist: Dao 2023, arXiv:2307.08691.
/// </summary>
/// <remarks>
/// Elements are float or <see cref="BFloat16"/>; sums are float. On the CPU only what is stored in o and dqkv is rounded; a CUDA device
/// (bfloat16, head dims that are multiples of 8 up to 128) rounds p and ds to bfloat16 too before it multiplies them, as HF rounds p. One
/// row of qkv holds N query heads, K key heads and K value heads, each of H elements. The bits of a result depend neither on the number
/// of workers nor on the other sequences of the batch. Pages and offsets in device memory are not checked here: who wrote them
/// there has.
/// </remarks>
public static partial class Attention
{
    /// <summary>Attention of every token to the tokens before it in its own sequence, itself included.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="qkv">[T, (N + 2K) · H], positions already rotated into q and k</param>
    /// <param name="o">[T, N · H]</param>
    /// <param name="lse">[T, N], natural logarithm; saved for backward</param>
    /// <param name="heads">N, a multiple of K</param>
    /// <param name="kvHeads">K</param>
    /// <param name="headDim">H</param>
    /// <param name="workspace">loaded with the sequences of the T tokens</param>
    public static void Forward<T>(
        ComputeStream stream, Tensor<T> qkv, Tensor<T> o, Tensor<float> lse, int heads, int kvHeads, int headDim,
        AttentionWorkspace workspace)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(workspace);
        CheckHeads(heads, kvHeads, headDim);
        var tokens = qkv.Shape[0];
        Expect.Shape(qkv, tokens, (heads + (2 * kvHeads)) * headDim);
        Expect.Shape(o, tokens, heads * headDim);
        Expect.Shape(lse, tokens, heads);
        workspace.CheckLoaded(stream, tokens, heads, kvHeads, headDim, backward: false);
        if (stream is CpuStream cpu)
        {
            ForwardCpu(cpu, qkv, o, lse, workspace);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Attention.Forward");
            ForwardCuda(cuda, qkv.As<BFloat16>(), o.As<BFloat16>(), lse, workspace);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>
    /// dv_j = Σ p_ij do_i; ds_ij = p_ij (do_i·v_j − do_i·o_i); dq_i = Σ ds_ij k_j / √H; dk_j = Σ ds_ij q_i / √H, with p recomputed from
    /// lse; dk and dv also sum over the query heads that share them.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dO">[T, N · H]</param>
    /// <param name="qkv">[T, (N + 2K) · H], as given to <see cref="Forward"/></param>
    /// <param name="o">[T, N · H], from <see cref="Forward"/></param>
    /// <param name="lse">[T, N], from <see cref="Forward"/></param>
    /// <param name="dqkv">[T, (N + 2K) · H], overwritten; may be qkv</param>
    /// <param name="heads">N, a multiple of K</param>
    /// <param name="kvHeads">K</param>
    /// <param name="headDim">H</param>
    /// <param name="workspace">declared with backward, loaded as for <see cref="Forward"/></param>
    public static void Backward<T>(
        ComputeStream stream, Tensor<T> dO, Tensor<T> qkv, Tensor<T> o, Tensor<float> lse, Tensor<T> dqkv, int heads, int kvHeads,
        int headDim, AttentionWorkspace workspace)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(workspace);
        CheckHeads(heads, kvHeads, headDim);
        var tokens = qkv.Shape[0];
        Expect.Shape(qkv, tokens, (heads + (2 * kvHeads)) * headDim);
        Expect.Shape(dqkv, tokens, (heads + (2 * kvHeads)) * headDim);
        Expect.Shape(dO, tokens, heads * headDim);
        Expect.Shape(o, tokens, heads * headDim);
        Expect.Shape(lse, tokens, heads);
        workspace.CheckLoaded(stream, tokens, heads, kvHeads, headDim, backward: true);
        if (stream is CpuStream cpu)
        {
            BackwardCpu(cpu, dO, qkv, o, lse, dqkv, workspace);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Attention.Backward");
            BackwardCuda(cuda, dO.As<BFloat16>(), qkv.As<BFloat16>(), o.As<BFloat16>(), lse, dqkv.As<BFloat16>(), workspace);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Copies the keys and values of row t of qkv to kPages[pages[t], offsets[t]] and vPages[pages[t], offsets[t]], before
    /// <see cref="Paged"/> reads them.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="qkv">[T, (N + 2K) · H], positions already rotated into k</param>
    /// <param name="pages">[T], page of each row, 0 .. pages − 1</param>
    /// <param name="offsets">[T], place of each row in its page, 0 .. pageTokens − 1; no two rows may have the same place</param>
    /// <param name="kPages">[pages, pageTokens, K · H]</param>
    /// <param name="vPages">[pages, pageTokens, K · H]</param>
    /// <param name="heads">N</param>
    /// <param name="kvHeads">K</param>
    /// <param name="headDim">H</param>
    public static void AppendToCache<T>(
        ComputeStream stream, Tensor<T> qkv, Tensor<int> pages, Tensor<int> offsets, Tensor<T> kPages, Tensor<T> vPages, int heads,
        int kvHeads, int headDim)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(stream);
        CheckHeads(heads, kvHeads, headDim);
        var tokens = qkv.Shape[0];
        Expect.Shape(qkv, tokens, (heads + (2 * kvHeads)) * headDim);
        Expect.Shape(pages, tokens);
        Expect.Shape(offsets, tokens);
        CheckPages(kPages, vPages, kvHeads, headDim);
        if (stream is CpuStream cpu)
        {
            CheckIndices(pages.Span, kPages.Shape[0], "pages must name pages of the cache");
            CheckIndices(offsets.Span, kPages.Shape[1], "offsets must be 0 .. the tokens of a page − 1");
            AppendToCacheCpu(cpu, qkv, pages, offsets, kPages, vPages, heads, kvHeads, headDim);
        }
        else if (stream is CudaStream cuda)
        {
            Expect.BFloat16<T>("Attention.AppendToCache");
            AppendToCacheCuda(
                cuda, qkv.As<BFloat16>(), pages, offsets, kPages.As<BFloat16>(), vPages.As<BFloat16>(), heads, kvHeads, headDim);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Pairs (i, j) with j ≤ i in the same sequence: Σ len (len + 1) / 2.</summary>
    public static long CausalPairs(ReadOnlySpan<int> cuSeqlens)
    {
        long pairs = 0;
        for (var s = 1; s < cuSeqlens.Length; s++)
        {
            long length = cuSeqlens[s] - cuSeqlens[s - 1];
            pairs += length * (length + 1) / 2;
        }

        return pairs;
    }

    /// <summary>Two products per pair: 4 · H · N · pairs flops; qkv read, o and lse written.</summary>
    public static Cost ForwardCost(ReadOnlySpan<int> cuSeqlens, int heads, int kvHeads, int headDim, int elementBytes)
    {
        long tokens = cuSeqlens.Length == 0 ? 0 : cuSeqlens[^1];
        var bytes = (tokens * 2 * (heads + kvHeads) * headDim * elementBytes) + (tokens * heads * sizeof(float));
        return new(bytes, 4L * headDim * heads * CausalPairs(cuSeqlens));
    }

    /// <summary>Five products per pair, the scores a second time included: 10 · H · N · pairs flops; dO, qkv, o and lse read, dqkv
    /// written.</summary>
    public static Cost BackwardCost(ReadOnlySpan<int> cuSeqlens, int heads, int kvHeads, int headDim, int elementBytes)
    {
        long tokens = cuSeqlens.Length == 0 ? 0 : cuSeqlens[^1];
        var bytes = (tokens * 4 * (heads + kvHeads) * headDim * elementBytes) + (tokens * heads * sizeof(float));
        return new(bytes, 10L * headDim * heads * CausalPairs(cuSeqlens));
    }

    internal static void CheckHeads(int heads, int kvHeads, int headDim)
    {
        if (heads <= 0 || kvHeads <= 0 || headDim <= 0 || heads % kvHeads != 0)
        {
            throw new ArgumentException(
                $"heads must be a positive multiple of kvHeads and headDim positive; got heads {heads}, kvHeads {kvHeads}, "
                + $"headDim {headDim}");
        }
    }

    private static void CheckIndices(ReadOnlySpan<int> indices, int end, string message)
    {
        foreach (var index in indices)
        {
            Expect.That((uint)index < (uint)end, message);
        }
    }

    private static void CheckPages<T>(Tensor<T> kPages, Tensor<T> vPages, int kvHeads, int headDim)
        where T : unmanaged =>
        Expect.That(
            kPages.Shape.Rank == 3 && kPages.Shape[1] > 0 && kPages.Shape[2] == kvHeads * headDim && kPages.Shape == vPages.Shape,
            "kPages and vPages must have shape [pages, pageTokens, kvHeads * headDim]");
}
