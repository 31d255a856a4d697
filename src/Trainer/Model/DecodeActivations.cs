using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// Buffers of decoding, reused by every layer: R rows are either packed prompt tokens or one new token per sequence.
/// Legend: R row capacity, S sequences, D hidden, F intermediate, V vocabulary.
/// </summary>
/// <typeparam name="T">storage, that of the model</typeparam>
public sealed class DecodeActivations<T> : IDisposable
    where T : unmanaged
{
    /// <summary>Declares and allocates buffers.</summary>
    /// <param name="config">the model</param>
    /// <param name="rows">packed prompt tokens at once, and at least <paramref name="sequences"/></param>
    /// <param name="sequences">sequences at once</param>
    /// <param name="positions">longest sequence, tokens</param>
    /// <param name="stream">fills the RoPE table; its workers get attention scratch each</param>
    public DecodeActivations(Qwen2Config config, int rows, int sequences, int positions, CpuStream stream)
    {
        rows = Math.Max(rows, sequences);
        Rows = rows;
        Arena = new Arena("decode activations");
        var attention = config.NumAttentionHeads * config.HeadDim;
        var qkv = attention + (2 * config.NumKeyValueHeads * config.HeadDim);
        TokenIds = Arena.Declare<int>(rows);
        Positions = Arena.Declare<int>(rows);
        Slots = Arena.Declare<int>(rows);
        Lengths = Arena.Declare<int>(rows);
        CuSeqlens = new int[sequences + 1];
        LastRows = Arena.Declare<int>(sequences);
        Input = Arena.Declare<T>(rows, config.HiddenSize);
        Norm = Arena.Declare<T>(rows, config.HiddenSize);
        Rstd = Arena.Declare<float>(rows);
        Qkv = Arena.Declare<T>(rows, qkv);
        Attention = Arena.Declare<T>(rows, attention);
        Lse = Arena.Declare<float>(rows, config.NumAttentionHeads);
        Branch = Arena.Declare<T>(rows, config.HiddenSize);
        GateUp = Arena.Declare<T>(rows, 2 * config.IntermediateSize);
        Act = Arena.Declare<T>(rows, config.IntermediateSize);
        Last = Arena.Declare<T>(sequences, config.HiddenSize);
        Logits = Arena.Declare<T>(sequences, config.VocabSize);
        Next = Arena.Declare<int>(sequences);
        Rope = new RopeTable(Arena, positions, config.HeadDim, config.RopeTheta);
        Workspace = new AttentionWorkspace(
            Arena, stream.Workers, rows, config.NumAttentionHeads, config.NumKeyValueHeads, config.HeadDim, backward: false);
        Arena.Allocate();
        Rope.Fill(stream);
    }

    /// <summary>Row capacity.</summary>
    public int Rows { get; }

    /// <summary>The memory.</summary>
    public Arena Arena { get; }

    /// <summary>[S, V] logits of the last position of each sequence of the latest call.</summary>
    public Tensor<T> Logits { get; }

    /// <summary>[S] the largest logit's token of each sequence of the latest call.</summary>
    public Tensor<int> Next { get; }

    internal Tensor<int> TokenIds { get; }

    internal Tensor<int> Positions { get; }

    internal Tensor<int> Slots { get; }

    internal Tensor<int> Lengths { get; }

    internal int[] CuSeqlens { get; }

    internal Tensor<int> LastRows { get; }

    internal Tensor<T> Input { get; }

    internal Tensor<T> Norm { get; }

    internal Tensor<float> Rstd { get; }

    internal Tensor<T> Qkv { get; }

    internal Tensor<T> Attention { get; }

    internal Tensor<float> Lse { get; }

    internal Tensor<T> Branch { get; }

    internal Tensor<T> GateUp { get; }

    internal Tensor<T> Act { get; }

    internal Tensor<T> Last { get; }

    internal RopeTable Rope { get; }

    internal AttentionWorkspace Workspace { get; }

    /// <inheritdoc/>
    public void Dispose() => Arena.Dispose();
}
