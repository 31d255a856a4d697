using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Serve;

/// <summary>A model directory with random weights and a tokenizer of 300 tokens that has a chat template; gone with the test.</summary>
internal sealed class ServedModel : IDisposable
{
    private readonly TinyRun _tiny = new();

    public ServedModel(Qwen2Config? config = null)
    {
        config ??= new Qwen2Config
        {
            ModelType = "qwen2", HiddenSize = 16, NumHiddenLayers = 2, NumAttentionHeads = 2, NumKeyValueHeads = 1, HeadDim = 8,
            IntermediateSize = 32, VocabSize = 300, MaxPositionEmbeddings = 512, RmsNormEps = 1e-6, RopeTheta = 1e4,
            TieWordEmbeddings = true, AttentionBias = true,
        };
        using var weights = new ParameterSet<float>("weights", new Qwen2Parameters(config));
        weights.Arena.Allocate();
        RandomWeights.Fill(weights, 5, 0.3);
        HfDirectory.Save(
            Directory, config, [.. weights.ByName.Select(p => HfTensor.From(p.Parameter.Name, p.Tensor, SafetensorDtype.F32))], _tiny["tokenizer"]);
    }

    public string Directory => _tiny["model"];

    public string this[string name] => _tiny[name];

    public Tokenizer Tokenizer => Tokenizer.Load(Directory);

    public void Dispose() => _tiny.Dispose();
}
