using Xunit;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Model;

public sealed class RandomWeightsTests
{
    private static readonly Qwen2Config s_config = new()
    {
        ModelType = "qwen2", HiddenSize = 64, NumHiddenLayers = 3, NumAttentionHeads = 2, NumKeyValueHeads = 1, HeadDim = 32,
        IntermediateSize = 101, VocabSize = 1001, MaxPositionEmbeddings = 64, RmsNormEps = 1e-6, RopeTheta = 1e4,
        TieWordEmbeddings = false, AttentionBias = true,
    };

    [Fact]
    public void The_seed_decides_every_bit()
    {
        var (a, again, other) = (Fill(s_config, 7), Fill(s_config, 7), Fill(s_config, 8));
        foreach (var name in a.Keys)
        {
            Assert.Equal(a[name], again[name]);
            Assert.Equal(Drawn(name), !a[name].AsSpan().SequenceEqual(other[name]));
        }
    }

    [Fact]
    public void An_element_depends_on_its_index_and_not_on_the_size_of_its_tensor()
    {
        var (small, large) = (Fill(s_config, 7), Fill(s_config with { VocabSize = 1500 }, 7));
        Assert.Equal(small["model.embed_tokens.weight"], large["model.embed_tokens.weight"][..small["model.embed_tokens.weight"].Length]);
        Assert.Equal(small["model.layers.2.mlp.down_proj.weight"], large["model.layers.2.mlp.down_proj.weight"]);
    }

    /// <summary>Five standard errors of n draws: 5σ/√n of the mean, 5σ/√(2n) of the deviation, 5·√(24/n) of the kurtosis.</summary>
    [Fact]
    public void Values_are_normal_with_the_declared_deviation()
    {
        foreach (var (name, values) in Fill(s_config, 3))
        {
            if (!Drawn(name))
            {
                Assert.All(values, v => Assert.Equal(name.Contains("norm") ? 1f : 0f, v));
                continue;
            }

            var residual = name.Contains("o_proj") || name.Contains("down_proj");
            var (sigma, n) = (0.02 / (residual ? Math.Sqrt(2 * s_config.NumHiddenLayers) : 1), values.Length);
            var variance = values.Average(v => (double)v * v);
            Assert.InRange(values.Average(), -5 * sigma / Math.Sqrt(n), 5 * sigma / Math.Sqrt(n));
            Assert.InRange(Math.Sqrt(variance) / sigma, 1 - (5 / Math.Sqrt(2 * n)), 1 + (5 / Math.Sqrt(2 * n)));
            var kurtosis = values.Average(v => Math.Pow(v, 4)) / (variance * variance);
            Assert.InRange(kurtosis, 3 - (5 * Math.Sqrt(24.0 / n)), 3 + (5 * Math.Sqrt(24.0 / n)));
            var neighbours = values.Zip(values.Skip(1), (a, b) => (double)a * b).Average() / variance;
            Assert.InRange(neighbours, -5 / Math.Sqrt(n), 5 / Math.Sqrt(n));
        }
    }

    [Fact]
    public void Parameters_are_drawn_apart()
    {
        var drawn = Fill(s_config, 3).Where(p => Drawn(p.Key)).Select(p => p.Value.Take(1000).ToArray()).ToList();
        for (var i = 0; i < drawn.Count; i++)
        {
            for (var j = 0; j < i; j++)
            {
                var product = drawn[i].Zip(drawn[j], (a, b) => (double)a * b).Sum();
                var size = Math.Sqrt(drawn[i].Sum(a => (double)a * a) * drawn[j].Sum(b => (double)b * b));
                Assert.InRange(product / size, -6 / Math.Sqrt(1000), 6 / Math.Sqrt(1000));
            }
        }
    }

    private static bool Drawn(string name) => !name.Contains("norm") && !name.Contains("bias");

    private static Dictionary<string, float[]> Fill(Qwen2Config config, long seed)
    {
        using var weights = new ParameterSet<float>("weights", new Qwen2Parameters(config));
        weights.Arena.Allocate();
        foreach (var tensor in weights.Tensors)
        {
            tensor.Span.Fill(float.NaN);
        }

        RandomWeights.Fill(weights, seed, 0.02);
        return weights.ByName.ToDictionary(p => p.Parameter.Name, p => p.Tensor.Span.ToArray());
    }
}
