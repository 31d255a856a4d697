using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// Qwen2ForCausalLM (Yang et al. 2024, arXiv:2412.15115): pre-norm decoder, grouped-query attention with RoPE and q/k/v biases, SwiGLU,
/// RMSNorm, tied or untied head. Straight-line forward and backward over kernels; no autograd. A Llama without biases is the same model.
/// Legend: T tokens of the batch, D hidden, N/K query and key/value heads, H head dim, F intermediate, V vocabulary.
/// </summary>
/// <typeparam name="T">storage of weights and activations: float or <see cref="BFloat16"/>; arithmetic is float</typeparam>
public sealed partial class Qwen2<T>
    where T : unmanaged
{
    private readonly Qwen2Parameters _p;
    private readonly UnitTraffic _traffic;

    /// <summary>A model over <paramref name="weights"/>, which the caller owns.</summary>
    /// <param name="weights">whole, or windows that <paramref name="traffic"/> fills; decoding wants whole ones</param>
    /// <param name="traffic">hears where a pass stands</param>
    public Qwen2(ParameterSet<T> weights, UnitTraffic? traffic = null)
    {
        Weights = weights;
        _p = weights.Parameters;
        _traffic = traffic ?? UnitTraffic.None;
    }

    /// <summary>The weights in compute precision.</summary>
    public ParameterSet<T> Weights { get; }

    /// <summary>The shapes.</summary>
    public Qwen2Config Config => _p.Config;

    private int HeadUnit => Weights.Layout.Head;

    /// <summary>Copies the batch into device memory.</summary>
    private void Load(ComputeStream stream, Activations<T> a, PackedBatch batch)
    {
        if (batch.TokenCount > a.Tokens)
        {
            throw new ArgumentException($"the batch has {batch.TokenCount} tokens, the activations hold {a.Tokens}");
        }

        Embedding.CheckTokens(batch.Tokens, Config.VocabSize);
        Rope.CheckPositions(batch.Positions, a.Rope.MaxPositions);
        a.Head.Load(stream, batch.Targets);
        a.AttentionWorkspace.Load(stream, batch.CuSeqlens);
        TensorCopy.Upload(stream, batch.Tokens, a.TokenIds.Prefix(batch.TokenCount));
        TensorCopy.Upload(stream, batch.Positions, a.Positions.Prefix(batch.TokenCount));
    }
}
