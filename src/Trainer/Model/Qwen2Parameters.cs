using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// Every parameter of a Qwen2ForCausalLM, in the order of its forward pass, as storage blocks. Legend: D hidden, N query heads, K key/value
/// heads, H head dim, F intermediate, V vocabulary, L layers. Names as in transformers' modeling_qwen2.
/// </summary>
public sealed class Qwen2Parameters
{
    private readonly List<ParameterBlock> _blocks = [];

    /// <summary>Lays the blocks out for <paramref name="config"/>.</summary>
    public Qwen2Parameters(Qwen2Config config)
    {
        Config = config;
        var (d, f) = (config.HiddenSize, config.IntermediateSize);
        var (q, kv) = (config.NumAttentionHeads * config.HeadDim, config.NumKeyValueHeads * config.HeadDim);

        Embedding = Add(Matrix("model.embed_tokens.weight", config.VocabSize, d));
        Layers = new LayerBlocks[config.NumHiddenLayers];
        for (var l = 0; l < Layers.Length; l++)
        {
            var layer = $"model.layers.{l}";
            Layers[l] = new LayerBlocks(
                InputNorm: Add(Norm($"{layer}.input_layernorm.weight", d)),
                Qkv: Add(
                    Matrix($"{layer}.self_attn.q_proj.weight", q, d),
                    Matrix($"{layer}.self_attn.k_proj.weight", kv, d),
                    Matrix($"{layer}.self_attn.v_proj.weight", kv, d)),
                QkvBias: config.AttentionBias
                    ? Add(Bias($"{layer}.self_attn.q_proj.bias", q), Bias($"{layer}.self_attn.k_proj.bias", kv), Bias($"{layer}.self_attn.v_proj.bias", kv))
                    : -1,
                Output: Add(Residual($"{layer}.self_attn.o_proj.weight", d, q)),
                PostAttentionNorm: Add(Norm($"{layer}.post_attention_layernorm.weight", d)),
                GateUp: Add(Matrix($"{layer}.mlp.gate_proj.weight", f, d), Matrix($"{layer}.mlp.up_proj.weight", f, d)),
                Down: Add(Residual($"{layer}.mlp.down_proj.weight", d, f)));
        }

        FinalNorm = Add(Norm("model.norm.weight", d));
        Head = config.TieWordEmbeddings ? Embedding : Add(Matrix("lm_head.weight", config.VocabSize, d));
    }

    /// <summary>The shapes' source.</summary>
    public Qwen2Config Config { get; }

    /// <summary>All blocks; the indices below point into it.</summary>
    public IReadOnlyList<ParameterBlock> Blocks => _blocks;

    /// <summary>Block index of the embedding [V, D].</summary>
    public int Embedding { get; }

    /// <summary>Block indices per layer.</summary>
    public LayerBlocks[] Layers { get; }

    /// <summary>Block index of the final norm [D].</summary>
    public int FinalNorm { get; }

    /// <summary>Block index of the LM head [V, D]; the embedding's own when tied.</summary>
    public int Head { get; }

    /// <summary>Parameters in all, a tied embedding counted once.</summary>
    public long Count => _blocks.Sum(b => b.Shape.Count);

    /// <summary>Block indices of one decoder layer; <paramref name="QkvBias"/> is -1 where the architecture has none.</summary>
    public readonly record struct LayerBlocks(int InputNorm, int Qkv, int QkvBias, int Output, int PostAttentionNorm, int GateUp, int Down);

    private int Add(params Parameter[] parts)
    {
        _blocks.Add(new ParameterBlock(parts));
        return _blocks.Count - 1;
    }

    private static Parameter Matrix(string name, int rows, int columns) => new(name, new Shape(rows, columns), Decay: true, ParameterInit.Normal);

    private static Parameter Residual(string name, int rows, int columns) =>
        new(name, new Shape(rows, columns), Decay: true, ParameterInit.NormalResidual);

    private static Parameter Norm(string name, int size) => new(name, new Shape(size), Decay: false, ParameterInit.One);

    private static Parameter Bias(string name, int size) => new(name, new Shape(size), Decay: false, ParameterInit.Zero);
}
