using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// The memory of the fused LM head: everything is sized by a chunk of R0 rows, never by [T, V]. <see cref="Load"/> gives it the targets of
/// a micro-batch; what the head then needs to know of them on the host is <see cref="Tokens"/> and <see cref="LossRows"/>.
/// </summary>
public sealed class HeadWorkspace<T>
    where T : unmanaged
{
    // What Load prepares on the host and uploads in one piece: Rows, Targets and Ignored side by side.
    private readonly int[] _host;
    private readonly Tensor<int> _device;

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
        MaxTokens = maxTokens;
        ChunkRows = Math.Min(chunkRows, maxTokens);
        Logits = arena.Declare<T>(ChunkRows, vocabulary);
        Hidden = arena.Declare<T>(ChunkRows, hidden);
        DHidden = arena.Declare<T>(ChunkRows, hidden);
        Losses = arena.Declare<float>(maxTokens);
        _device = arena.Declare<int>(3, maxTokens);
        _host = new int[3 * maxTokens];
        Rows = _device.Rows(0, 1).Reshape(maxTokens);
        Targets = _device.Rows(1, 1).Reshape(maxTokens);
        Ignored = _device.Rows(2, 1).Reshape(maxTokens);
    }

    /// <summary>T at most.</summary>
    public int MaxTokens { get; }

    /// <summary>R0.</summary>
    public int ChunkRows { get; }

    /// <summary>T of the targets loaded last; 0 before.</summary>
    public int Tokens { get; private set; }

    /// <summary>How many of them have a loss.</summary>
    public int LossRows { get; private set; }

    /// <summary>[R0, V]: logits, then their gradient</summary>
    public Tensor<T> Logits { get; }

    /// <summary>[R0, D]: the hidden rows that have a loss, side by side</summary>
    public Tensor<T> Hidden { get; }

    /// <summary>[R0, D]: their gradient</summary>
    public Tensor<T> DHidden { get; }

    /// <summary>[maxTokens]: the row of each loss token, ascending; then zeros</summary>
    public Tensor<int> Rows { get; }

    /// <summary>[maxTokens]: the target of each loss token; then <see cref="CrossEntropy.IgnoreIndex"/></summary>
    public Tensor<int> Targets { get; }

    /// <summary>[maxTokens]: the rows without a loss, ascending; then zeros</summary>
    public Tensor<int> Ignored { get; }

    /// <summary>[maxTokens]: after a call, the loss of each loss token in the order of its row, nats</summary>
    public Tensor<float> Losses { get; }

    /// <summary>Takes the targets of the next calls: checks them, sorts their rows into those with and without a loss, and uploads
    /// that.</summary>
    /// <param name="stream">where the next calls run</param>
    /// <param name="targets">[T], in [0, V) or <see cref="CrossEntropy.IgnoreIndex"/>; may be reused at once</param>
    /// <exception cref="ArgumentOutOfRangeException">a target out of range; the targets loaded before stay</exception>
    public void Load(ComputeStream stream, ReadOnlySpan<int> targets)
    {
        Expect.That(targets.Length <= MaxTokens, "the workspace was declared for fewer tokens");
        CrossEntropy.CheckTargets(targets, Logits.Shape[1]);
        var rows = _host.AsSpan(0, MaxTokens);
        var kept = _host.AsSpan(MaxTokens, MaxTokens);
        var ignored = _host.AsSpan(2 * MaxTokens, MaxTokens);
        var (loss, none) = (0, 0);
        for (var t = 0; t < targets.Length; t++)
        {
            if (targets[t] == CrossEntropy.IgnoreIndex)
            {
                ignored[none++] = t;
            }
            else
            {
                (rows[loss], kept[loss]) = (t, targets[t]);
                loss++;
            }
        }

        rows[loss..].Clear();
        kept[loss..].Fill(CrossEntropy.IgnoreIndex);
        ignored[none..].Clear();
        TensorCopy.Upload(stream, _host, _device);
        (Tokens, LossRows) = (targets.Length, loss);
    }
}
