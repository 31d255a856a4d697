using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Model;

/// <summary>
/// The model with 8-bit linear layers beside the one without. e4m3 rounds by at most 2^-4, 0.036 in rms; e5m2 by 2^-3, 0.072. A product of two
/// rounded operands errs by 0.05 (forward) or 0.08 (gradients) of itself. Two layers put up to 8 such products one behind another before the
/// logits and 16 before a gradient; independent errors add in squares: 0.14 and 0.32, and twice that is allowed.
/// </summary>
public sealed class Fp8ModelTests
{
    [Fact]
    public void Logits_and_gradients_stay_within_what_eight_bits_lose()
    {
        using var stream = new CpuStream(2);
        var directory = Goldens.Model("a_tied");
        Assert.SkipUnless(Directory.Exists(directory), "a_tied is not in this set of golden values");
        var batch = new PackedBatch(80, 4);
        foreach (var (id, length) in ((int, int)[])[(0, 40), (1, 23), (2, 1)])
        {
            batch.Add(id, new TokenizedSample($"{id}", [.. Enumerable.Range(0, length).Select(t => ((t * 71) + (id * 13)) % 512)], new TokenSpan(0, length)));
        }

        batch.Pad(80);
        var (plain, eight) = (Run(stream, directory, batch, fp8: false), Run(stream, directory, batch, fp8: true));
        var logits = Rms(eight[0], plain[0]);
        Assert.True(logits > 1e-4, $"logits differ by {logits:E2} only: were the products in 8 bits?");
        Assert.True(logits <= 0.28, $"logits: {logits:F3}");
        for (var i = 1; i < plain.Count; i++)
        {
            Assert.True(Rms(eight[i], plain[i]) <= 0.64, $"gradient {i}: {Rms(eight[i], plain[i]):F3}");
        }
    }

    private static List<float[]> Run(CpuStream stream, string directory, PackedBatch batch, bool fp8)
    {
        var parameters = new Qwen2Parameters(Qwen2Config.Load(directory));
        using var optimizer = new Optimizer<float>(parameters, default, decayAll: false, stream);
        using var activations = new Activations<float>(parameters.Config, 80, 16, Recompute.None, stream, training: true, fp8);
        optimizer.Allocate();
        activations.Allocate();
        HfWeights.Load(directory, optimizer.Master);
        var model = new Qwen2<float>(optimizer.Weights);
        model.ForwardBackward(stream, activations, batch, optimizer.Gradients, 1f / batch.LossTokens, accumulate: false);
        return [activations.FinalNorm.Span.ToArray(), .. optimizer.Gradients.ByName.Select(g => g.Tensor.Span.ToArray())];
    }

    private static double Rms(float[] actual, float[] expected)
    {
        var (error, norm) = (0.0, 0.0);
        for (var i = 0; i < expected.Length; i++)
        {
            error += Math.Pow((double)actual[i] - expected[i], 2);
            norm += Math.Pow(expected[i], 2);
        }

        return norm == 0 ? Math.Sqrt(error) : Math.Sqrt(error / norm);
    }
}
