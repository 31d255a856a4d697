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
    /// <param name="stream">where it runs and whose memory it is</param>
    public DecodeActivations(Qwen2Config config, int rows, int sequences, int positions, ComputeStream stream)
    {
        rows = Math.Max(rows, sequences);
        Rows = rows;
        Arena = stream.CreateArena("decode activations");
        var attention = config.NumAttentionHeads * config.HeadDim;
        var qkv = attention + (2 * config.NumKeyValueHeads * config.HeadDim);
        TokenIds = Arena.Declare<int>(rows);
        Positions = Arena.Declare<int>(rows);
        Slots = Arena.Declare<int>(rows);
        Lengths = Arena.Declare<int>(rows);
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
            Arena, (stream as CpuStream)?.Workers ?? 1, rows, config.NumAttentionHeads, config.NumKeyValueHeads, config.HeadDim, backward: false,
            decodeRows: sequences);
        Arena.Allocate();
        Rope.Fill();
        Host = new HostIndices(rows, sequences);
    }

    /// <summary>Row capacity.</summary>
    public int Rows { get; }

    /// <summary>The memory.</summary>
    public Arena Arena { get; }

    /// <summary>[S, V] logits of the last position of each sequence of the latest call.</summary>
    public Tensor<T> Logits { get; }

    /// <summary>[S] the largest logit's token of each sequence of the latest call.</summary>
    public Tensor<int> Next { get; }

    /// <summary>Where indices are put together before they are uploaded.</summary>
    internal HostIndices Host { get; }

    internal Tensor<int> TokenIds { get; }

    internal Tensor<int> Positions { get; }

    internal Tensor<int> Slots { get; }

    internal Tensor<int> Lengths { get; }

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

    /// <summary>Checks and uploads what every pass needs of its R rows.</summary>
    /// <exception cref="ArgumentOutOfRangeException">a token, position or slot that does not exist; nothing has been uploaded</exception>
    internal void Load(ComputeStream stream, ReadOnlySpan<int> tokens, ReadOnlySpan<int> positions, ReadOnlySpan<int> slots, KvCache<T> cache)
    {
        Kernels.Embedding.CheckTokens(tokens, Logits.Shape[1]);
        Kernels.Rope.CheckPositions(positions, Math.Min(Rope.MaxPositions, cache.Capacity));
        if (slots.ContainsAnyExceptInRange(0, cache.Slots - 1))
        {
            throw new ArgumentOutOfRangeException(nameof(slots), $"slots must be at least 0 and below the cache's {cache.Slots}");
        }

        TensorCopy.Upload(stream, tokens, TokenIds.Prefix(tokens.Length));
        TensorCopy.Upload(stream, positions, Positions.Prefix(positions.Length));
        TensorCopy.Upload(stream, slots, Slots.Prefix(slots.Length));
    }

    /// <summary>Host arrays of the index tensors.</summary>
    internal sealed class HostIndices(int rows, int sequences)
    {
        public int[] Positions { get; } = new int[rows];

        public int[] Slots { get; } = new int[rows];

        public int[] Lengths { get; } = new int[rows];

        public int[] CuSeqlens { get; } = new int[sequences + 1];

        public int[] LastRows { get; } = new int[sequences];
    }
}
