using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>The memory of the fused LM head: everything is sized by a chunk of R0 rows, never by [T, V].</summary>
public sealed class HeadWorkspace<T>
    where T : unmanaged
{
    /// <summary>Declares the tensors in <paramref name="arena"/>, which owns them.</summary>
    /// <param name="arena">not yet allocated</param>
    /// <param name="maxTokens">T at most</param>
    /// <param name="chunkRows">R0: rows of logits that exist at a time</param>
    /// <param name="hidden">D</param>
    /// <param name="vocabulary">V</param>
    public HeadWorkspace(Arena arena, int maxTokens, int chunkRows, int hidden, int vocabulary)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxTokens, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(chunkRows, 1);
        ChunkRows = Math.Min(chunkRows, maxTokens);
        Logits = arena.Declare<T>(ChunkRows, vocabulary);
        Hidden = arena.Declare<T>(ChunkRows, hidden);
        DHidden = arena.Declare<T>(ChunkRows, hidden);
        Rows = arena.Declare<int>(maxTokens);
        Targets = arena.Declare<int>(maxTokens);
        Losses = arena.Declare<float>(maxTokens);
    }

    /// <summary>R0.</summary>
    public int ChunkRows { get; }

    /// <summary>[R0, V]: logits, then their gradient</summary>
    public Tensor<T> Logits { get; }

    /// <summary>[R0, D]: the hidden rows that have a loss, side by side</summary>
    public Tensor<T> Hidden { get; }

    /// <summary>[R0, D]: their gradient</summary>
    public Tensor<T> DHidden { get; }

    /// <summary>[maxTokens]: the row of each loss token</summary>
    public Tensor<int> Rows { get; }

    /// <summary>[maxTokens]: the target of each loss token</summary>
    public Tensor<int> Targets { get; }

    /// <summary>[maxTokens]: after a call, the loss of each loss token in the order of its row, nats</summary>
    public Tensor<float> Losses { get; }
}
