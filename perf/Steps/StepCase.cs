using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Perf;

/// <summary>The model sizes and packed rows of the side-by-side runs: exactly those of perf/peer/bench_train.py.</summary>
/// <param name="Size">nano, mini, 05b; for GPUs 1.5b and 7b</param>
/// <param name="Length">packed tokens of a step</param>
/// <param name="Type">bf16 or fp32</param>
public sealed record StepCase(string Size, int Length, string Type)
{
    /// <summary>Every size, smallest first.</summary>
    public static IReadOnlyList<string> Sizes { get; } = ["nano", "mini", "05b"];

    /// <summary>Sizes and packed tokens of the cases for GPUs: rows of 1280 tokens, as many as one card holds beside the state.</summary>
    public static IReadOnlyList<StepCase> OnGpu { get; } = [new("05b", 20480, "bf16"), new("1.5b", 10240, "bf16"), new("7b", 2560, "bf16")];

    /// <summary>The lengths.</summary>
    public static IReadOnlyList<int> Lengths { get; } = [512, 1280];

    /// <summary>The shapes of a size; tied embeddings, q/k/v biases.</summary>
    public static Qwen2Config ConfigOf(string size) => size switch
    {
        "nano" => Shapes(256, 6, 4, 688, 8192),
        "mini" => Shapes(512, 8, 8, 1408, 32000),
        "1.5b" => Shapes(1536, 28, 12, 8960, 151936) with { HeadDim = 128 },
        "7b" => Shapes(3584, 28, 28, 18944, 152064) with { HeadDim = 128, NumKeyValueHeads = 4, TieWordEmbeddings = false },
        _ => Shapes(896, 24, 14, 4864, 151936),
    };

    /// <summary>The documents of the packed row: random tokens, the first quarter of each is prompt.</summary>
    public TokenizedSample[] Samples()
    {
        if (Length > 1280)
        {
            return Rows();
        }

        int[] lengths = Length == 512 ? [200, 120, 192] : [400, 300, 260, 320];
        var random = new Random(0);
        var vocabulary = ConfigOf(Size).VocabSize;
        return [.. lengths.Select((n, i) => new TokenizedSample($"{i}", [.. Enumerable.Range(0, n).Select(_ => random.Next(vocabulary))], new TokenSpan(n / 4, n)))];
    }

    /// <summary>Documents of 1280 tokens whose every token is learnt: the case of shared/peer/bench_gpu.py.</summary>
    private TokenizedSample[] Rows()
    {
        const int Row = 1280;
        var random = new Random(0);
        var vocabulary = ConfigOf(Size).VocabSize;
        return [.. Enumerable.Range(0, Length / Row).Select(
            i => new TokenizedSample($"{i}", [.. Enumerable.Range(0, Row).Select(_ => random.Next(vocabulary))], new TokenSpan(1, Row)))];
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Size} {Length} {Type}";

    private static Qwen2Config Shapes(int hidden, int layers, int heads, int intermediate, int vocabulary) => new()
    {
        ModelType = "qwen2",
        HiddenSize = hidden,
        NumHiddenLayers = layers,
        NumAttentionHeads = heads,
        NumKeyValueHeads = 2,
        HeadDim = 64,
        IntermediateSize = intermediate,
        VocabSize = vocabulary,
        MaxPositionEmbeddings = 32768,
        RmsNormEps = 1e-6,
        RopeTheta = 1e6,
        TieWordEmbeddings = true,
        AttentionBias = true,
    };
}
