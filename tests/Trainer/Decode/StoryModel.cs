using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Decode;

/// <summary>
/// A model that writes a known text: its layers add nothing, and the head row of each token is the embedding of the token before it in
/// <see cref="Story"/>. |embedding|² = D stands against chance products of about √D: no token is in doubt.
/// </summary>
internal sealed class StoryModel : IDisposable
{
    public const string Story = "0123abcdé日fgh-ijkl𝄞mnopqrstuvwxyz.ABCDEFGHIJ";   // no byte twice

    private readonly CpuStream _stream = new(1);

    public StoryModel()
    {
        Weights = Random(Config, seed: 1);
        var tensors = Weights.ByName.ToDictionary(p => p.Parameter.Name, p => p.Tensor);
        tensors["model.layers.0.self_attn.o_proj.weight"].Span.Clear();
        tensors["model.layers.0.mlp.down_proj.weight"].Span.Clear();
        var story = Tokenizer.Encode(Story);
        Assert.Equal(story.Length, story.Distinct().Count());
        for (var i = 0; i + 1 < story.Length; i++)
        {
            tensors["model.embed_tokens.weight"].Row(story[i]).CopyTo(tensors["lm_head.weight"].Row(story[i + 1]));
        }

        Model = new Qwen2<float>(Weights);
    }

    public static Qwen2Config Config { get; } = new()
    {
        ModelType = "qwen2", HiddenSize = 128, NumHiddenLayers = 1, NumAttentionHeads = 2, NumKeyValueHeads = 1, HeadDim = 64,
        IntermediateSize = 16, VocabSize = 260, MaxPositionEmbeddings = 4096, RmsNormEps = 1e-6, RopeTheta = 1e4,
        TieWordEmbeddings = false, AttentionBias = true,
    };

    public Tokenizer Tokenizer { get; } = TokenizerTrainer.Train(["x"], 257, ["<|end|>"]);

    public ParameterSet<float> Weights { get; }

    public Qwen2<float> Model { get; }

    public static ParameterSet<float> Random(Qwen2Config config, int seed)
    {
        var weights = new ParameterSet<float>("weights", new Qwen2Parameters(config));
        weights.Arena.Allocate();
        RandomWeights.Fill(weights, seed, initializerRange: 1);
        return weights;
    }

    public PagedEngine<float> Engine(int slots, int capacity, bool text = true) =>
        new(_stream, Model, text ? Tokenizer : null, new DecodeEngineOptions { Slots = slots, Capacity = capacity });

    public PagedEngine<float> Engine(DecodeEngineOptions options) => new(_stream, Model, Tokenizer, options);

    public DecodeRequest Ask(string prompt, GenerateOptions options) => new() { Prompt = Tokenizer.Encode(prompt), Options = options };

    public void Dispose()
    {
        Weights.Dispose();
        _stream.Dispose();
    }
}
