using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Train;

/// <summary>Where a run's weights come from: a Hugging Face directory, or random values under shapes written in the recipe.</summary>
/// <param name="From">directory with config.json and safetensors; null for random weights</param>
/// <param name="Shapes">the shapes of random weights (VocabSize 0 means that of the tokenizer); beside <paramref name="From"/> they let
/// `z1 plan` work before the weights are downloaded, and must agree with them</param>
/// <param name="VocabRows">0 keeps the embedding's rows; else rows beyond it are cut and missing ones are set to the mean of the others, as
/// the published script's smart_tokenizer_and_embedding_resize did</param>
/// <param name="InitializerRange">standard deviation of random matrices</param>
public sealed record ModelSource(string? From, Qwen2Config? Shapes, int VocabRows, double InitializerRange)
{
    /// <summary>Reads the `model` section.</summary>
    public static ModelSource Read(RecipeTree tree)
    {
        var from = tree.Text("from");
        var range = tree.Number("initializer_range", 0.02);
        var rows = tree.Int("vocab_rows", 0);
        var given = tree.Has("shapes");
        var shapes = tree.Section("shapes");
        if (!given)
        {
            return from is not null
                ? new ModelSource(from, null, rows, range)
                : throw tree.Error("from", "is missing: name a model directory, or give 'model.shapes' for random weights");
        }

        var hidden = shapes.Int("hidden_size", 0, 1);
        var heads = shapes.Int("num_attention_heads", 4, 1);
        var config = new Qwen2Config
        {
            HiddenSize = hidden,
            NumHiddenLayers = shapes.Int("num_hidden_layers", 4, 1),
            NumAttentionHeads = heads,
            NumKeyValueHeads = shapes.Int("num_key_value_heads", heads, 1),
            HeadDim = shapes.Int("head_dim", hidden / heads, 2),
            IntermediateSize = shapes.Int("intermediate_size", 4 * hidden, 1),
            VocabSize = shapes.Int("vocab_size", 0),
            MaxPositionEmbeddings = shapes.Int("max_position_embeddings", 32768, 1),
            RmsNormEps = shapes.Number("rms_norm_eps", 1e-6),
            RopeTheta = shapes.Number("rope_theta", 1e6, 1),
            TieWordEmbeddings = shapes.Flag("tie_word_embeddings", true),
            AttentionBias = true,
            ModelType = "qwen2",
        };
        return hidden == 0 ? throw shapes.Error("hidden_size", "is missing")
            : config.HeadDim % 2 != 0 || config.HeadDim == 0
                ? throw shapes.Error("head_dim", $"is {config.HeadDim}; rotary positions need an even one")
            : config.NumAttentionHeads % config.NumKeyValueHeads != 0
                ? throw shapes.Error(
                    "num_key_value_heads", $"is {config.NumKeyValueHeads}, which does not divide num_attention_heads {config.NumAttentionHeads}")
            : new ModelSource(from, config, rows, range);
    }
}
