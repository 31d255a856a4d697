using Z1Coder.Runtime;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Serve;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Cli;

/// <summary>The engine that answers for z1 eval: the one place where it is made.</summary>
internal static class EvalEngine
{
    /// <summary>Loads a model's weights.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="directory">the model</param>
    /// <param name="dtype">bf16 or fp32</param>
    /// <param name="tokenizer">of the model</param>
    /// <param name="slots">sequences at once</param>
    /// <param name="capacity">longest sequence, tokens</param>
    public static DecodeEngine Open(ComputeStream stream, string directory, string dtype, Tokenizer tokenizer, int slots, int capacity) => dtype == "fp32"
        ? new SlotEngine<float>(stream, directory, tokenizer, slots, capacity)
        : new SlotEngine<BFloat16>(stream, directory, tokenizer, slots, capacity);
}
