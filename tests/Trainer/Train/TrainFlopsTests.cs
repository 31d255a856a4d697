using Xunit;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

public sealed class TrainFlopsTests
{
    private static readonly Qwen2Config s_small = new()
    {
        ModelType = "qwen2", HiddenSize = 2, NumHiddenLayers = 1, NumAttentionHeads = 1, NumKeyValueHeads = 1, HeadDim = 2,
        IntermediateSize = 3, VocabSize = 5, MaxPositionEmbeddings = 64, RmsNormEps = 1e-6, RopeTheta = 1e4,
        TieWordEmbeddings = true, AttentionBias = true,
    };

    /// <summary>
    /// One sample of 4 tokens, 2 with a loss. Matrices: q, k, v, o 2·2 each and gate, up, down 2·3 each: 34 elements, 6 a token: 816. Head
    /// 5·2 on two rows: 120. Attention: 16/2 pairs, 2 products of 2 · 2 flops, once forward and twice backward: 192.
    /// </summary>
    [Fact]
    public void By_hand() => Assert.Equal(816 + 120 + 192, TrainFlops.Of(s_small, 4, 2, 16));

    [Fact]
    public void Matmul_by_matmul()
    {
        var config = s_small with
        {
            HiddenSize = 96, NumHiddenLayers = 3, NumAttentionHeads = 6, NumKeyValueHeads = 2, HeadDim = 20,
            IntermediateSize = 250, VocabSize = 777,
        };
        int[] lengths = [13, 1, 37, 2, 24];
        const int LossTokens = 45;
        double forward = 0;
        for (var layer = 0; layer < 3; layer++)
        {
            foreach (var (outputs, inputs) in new[] { (120, 96), (40, 96), (40, 96), (96, 120), (250, 96), (250, 96), (96, 250) })
            {
                forward += 2.0 * lengths.Sum() * outputs * inputs;
            }

            forward += lengths.Sum(n => n * n / 2.0) * 6 * (2 * (2 * 20));      // scores and mixing, each a dot of 20 per pair and head
        }

        forward += 2.0 * LossTokens * 777 * 96;
        Assert.Equal(3 * forward, TrainFlops.Of(config, lengths.Sum(), LossTokens, lengths.Sum(n => n * n)), 1e-3);
    }

    [Fact]
    public void A_large_model_on_many_tokens_does_not_overflow()
    {
        var config = s_small with
        {
            HiddenSize = 8192, NumHiddenLayers = 80, NumAttentionHeads = 64, NumKeyValueHeads = 8, HeadDim = 128,
            IntermediateSize = 29568, VocabSize = 152064,
        };
        var matrices = new Qwen2Parameters(config).Blocks.Where(b => b.Shape.Rank == 2).Sum(b => b.Shape.Count);
        Assert.Equal(6.0 * matrices * (1L << 40), TrainFlops.Of(config, 1L << 40, 1L << 40, 0), 1e-9 * 6 * matrices * (1L << 40));
    }
}
