using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Model;

/// <summary>Shapes of the published Qwen2.5-Coder models (their config.json), for plans without a model directory.</summary>
public static class KnownModels
{
    /// <summary>The names, smallest first.</summary>
    public static IReadOnlyList<string> Names { get; } = ["0.5b", "1.5b", "3b", "7b", "14b", "32b"];

    /// <summary>The shapes behind a name.</summary>
    /// <exception cref="InvalidInputException">another name</exception>
    public static Qwen2Config Find(string name) => name switch
    {
        "0.5b" => Shapes(896, 24, 14, 2, 64, 4864, 151936, tied: true),
        "1.5b" => Shapes(1536, 28, 12, 2, 128, 8960, 151936, tied: true),
        "3b" => Shapes(2048, 36, 16, 2, 128, 11008, 151936, tied: true),
        "7b" => Shapes(3584, 28, 28, 4, 128, 18944, 152064, tied: false),
        "14b" => Shapes(5120, 48, 40, 8, 128, 13824, 152064, tied: false),
        "32b" => Shapes(5120, 64, 40, 8, 128, 27648, 152064, tied: false),
        _ => throw new InvalidInputException($"'{name}' is neither a model directory nor one of {string.Join(", ", Names)}"),
    };

    private static Qwen2Config Shapes(
        int hidden, int layers, int heads, int kvHeads, int headDim, int intermediate, int vocabulary, bool tied) => new()
        {
            ModelType = "qwen2",
            HiddenSize = hidden,
            NumHiddenLayers = layers,
            NumAttentionHeads = heads,
            NumKeyValueHeads = kvHeads,
            HeadDim = headDim,
            IntermediateSize = intermediate,
            VocabSize = vocabulary,
            MaxPositionEmbeddings = 32768,
            RmsNormEps = 1e-6,
            RopeTheta = 1e6,
            TieWordEmbeddings = tied,
            AttentionBias = true,
        };
}
