using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// What the forward pass leaves for the backward pass, and the scratch of both, in one arena sized for the largest micro-batch.
/// Legend: T token capacity, D hidden, N/K query and key/value heads, H head dim, F intermediate, V vocabulary.
/// </summary>
/// <typeparam name="T">storage: float or <see cref="BFloat16"/></typeparam>
public sealed class Activations<T> : IDisposable
    where T : unmanaged
{
    private readonly Layer[] _layers;

    /// <summary>Declares the activations of <paramref name="tokens"/> tokens; takes no memory yet.</summary>
    /// <param name="config">the model</param>
    /// <param name="tokens">capacity of a micro-batch, tokens</param>
    /// <param name="headRows">rows of one LM-head chunk: logits take headRows · V elements, whatever the batch</param>
    /// <param name="recompute">what is not kept</param>
    /// <param name="stream">where it runs and whose memory it is</param>
    /// <param name="training">whether a backward pass will follow; evaluation keeps one layer only</param>
    /// <param name="fp8">the linear layers multiply 8-bit copies; widths and tokens must then be multiples of 16</param>
    public Activations(Qwen2Config config, int tokens, int headRows, Recompute recompute, ComputeStream stream, bool training, bool fp8 = false)
    {
        (Config, Tokens, Recompute) = (config, tokens, recompute);
        Arena = stream.CreateArena("activations");
        var (d, f) = (config.HiddenSize, config.IntermediateSize);
        var attention = config.NumAttentionHeads * config.HeadDim;
        var qkv = attention + (2 * config.NumKeyValueHeads * config.HeadDim);
        var keepBlocks = training && !recompute.HasFlag(Recompute.Block);

        TokenIds = Arena.Declare<int>(tokens);
        Positions = Arena.Declare<int>(tokens);
        Branch = Arena.Declare<T>(tokens, d);

        Layer? shared = null;
        _layers = new Layer[config.NumHiddenLayers];
        Tensor<T> norm = default, act = default;
        for (var l = 0; l < _layers.Length; l++)
        {
            // Layer inputs are always kept when training; without a backward pass two of them alternate.
            var input = training || l < 2 ? Arena.Declare<T>(tokens, d) : _layers[l - 2].Input;
            if (shared is not null && !keepBlocks)
            {
                _layers[l] = shared with { Input = input };
                continue;
            }

            var keepNorm = keepBlocks && !recompute.HasFlag(Recompute.Norm);
            var keepSwiGlu = keepBlocks && !recompute.HasFlag(Recompute.SwiGlu);
            norm = keepNorm || norm.IsEmpty ? Arena.Declare<T>(tokens, d) : norm;
            var postNorm = keepNorm ? Arena.Declare<T>(tokens, d) : norm;
            act = keepSwiGlu || act.IsEmpty ? Arena.Declare<T>(tokens, f) : act;
            _layers[l] = shared = new Layer(
                Input: input,
                InputNorm: norm,
                InputRstd: Arena.Declare<float>(tokens),
                Qkv: Arena.Declare<T>(tokens, qkv),
                Attention: Arena.Declare<T>(tokens, attention),
                Lse: Arena.Declare<float>(tokens, config.NumAttentionHeads),
                Middle: Arena.Declare<T>(tokens, d),
                MiddleNorm: postNorm,
                MiddleRstd: Arena.Declare<float>(tokens),
                GateUp: Arena.Declare<T>(tokens, 2 * f),
                Act: act);
        }

        Output = training || config.NumHiddenLayers < 2 ? Arena.Declare<T>(tokens, d) : _layers[^2].Input;
        FinalNorm = Arena.Declare<T>(tokens, d);
        FinalRstd = Arena.Declare<float>(tokens);
        TokenLosses = Arena.Declare<float>(tokens);
        LossSum = Arena.Declare<double>(1);
        Rope = new RopeTable(Arena, Math.Min(tokens, config.MaxPositionEmbeddings), config.HeadDim, config.RopeTheta);
        Head = new HeadWorkspace<T>(Arena, tokens, Math.Min(headRows, tokens), d, config.VocabSize);
        AttentionWorkspace = new AttentionWorkspace(
            Arena, (stream as CpuStream)?.Workers ?? 1, tokens, config.NumAttentionHeads, config.NumKeyValueHeads, config.HeadDim, training);
        Fp8 = fp8 ? new Fp8Workspace(Arena, config, tokens) : null;
        if (training)
        {
            DHidden = Arena.Declare<T>(tokens, d);
            DBranch = Arena.Declare<T>(tokens, d);
            DAct = Arena.Declare<T>(tokens, f);
            DAttention = Arena.Declare<T>(tokens, attention);
            DQkv = Arena.Declare<T>(tokens, qkv);
        }
    }

    /// <summary>The model's shapes.</summary>
    public Qwen2Config Config { get; }

    /// <summary>Capacity of a micro-batch, tokens.</summary>
    public int Tokens { get; }

    /// <summary>What is not kept.</summary>
    public Recompute Recompute { get; }

    /// <summary>The memory.</summary>
    public Arena Arena { get; }

    internal ReadOnlySpan<Layer> Layers => _layers;

    internal Tensor<int> TokenIds { get; }

    internal Tensor<int> Positions { get; }

    internal Tensor<T> Branch { get; }

    internal Tensor<T> Output { get; }

    internal Tensor<T> FinalNorm { get; }

    internal Tensor<float> FinalRstd { get; }

    /// <summary>[T] of the latest <see cref="Qwen2{T}.Loss"/>: −log p(target), nats; 0 where a token has no target.</summary>
    public Tensor<float> TokenLosses { get; }

    /// <summary>[1]: what <see cref="Qwen2{T}.ForwardBackward"/> has added since it was last zeroed, nats; read it through <see cref="ReadLossSum"/>.</summary>
    public Tensor<double> LossSum { get; }

    /// <summary>The 8-bit copies of the linear layers; null where they are not used.</summary>
    internal Fp8Workspace? Fp8 { get; }

    internal RopeTable Rope { get; }

    internal HeadWorkspace<T> Head { get; }

    internal AttentionWorkspace AttentionWorkspace { get; }

    internal Tensor<T> DHidden { get; }

    internal Tensor<T> DBranch { get; }

    internal Tensor<T> DAct { get; }

    internal Tensor<T> DAttention { get; }

    internal Tensor<T> DQkv { get; }

    /// <summary>Takes the memory and fills the RoPE table.</summary>
    public void Allocate()
    {
        Arena.Allocate();
        Rope.Fill();
    }

    /// <summary>Waits for the stream and gives the value of <see cref="LossSum"/>.</summary>
    public double ReadLossSum(ComputeStream stream)
    {
        Span<double> sum = stackalloc double[1];
        TensorCopy.Download(stream, LossSum, sum);
        return sum[0];
    }

    /// <inheritdoc/>
    public void Dispose() => Arena.Dispose();

    /// <summary>Activations of one decoder layer. Names follow the forward pass.</summary>
    internal sealed record Layer(
        Tensor<T> Input,
        Tensor<T> InputNorm,
        Tensor<float> InputRstd,
        Tensor<T> Qkv,
        Tensor<T> Attention,
        Tensor<float> Lse,
        Tensor<T> Middle,
        Tensor<T> MiddleNorm,
        Tensor<float> MiddleRstd,
        Tensor<T> GateUp,
        Tensor<T> Act);
}
