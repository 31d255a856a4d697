using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// The 8-bit copies of one block's linear layers, used by every block in turn: inputs and weights in e4m3, gradients in e5m2, each with a scale of
/// its own per tensor (Micikevicius et al. 2022, arXiv:2209.05433). The LM head, attention and everything element-wise stay as they are.
/// </summary>
internal sealed class Fp8Workspace
{
    private readonly Fp8Operand[] _inputs, _weights, _gradients;

    /// <summary>Declares the copies for up to <paramref name="tokens"/> tokens; every extent must be a multiple of 16.</summary>
    public Fp8Workspace(Arena arena, Qwen2Config config, int tokens)
    {
        var (d, f) = (config.HiddenSize, config.IntermediateSize);
        var attention = config.NumAttentionHeads * config.HeadDim;
        var qkv = attention + (2 * config.NumKeyValueHeads * config.HeadDim);
        (int In, int Out)[] shapes = [(d, qkv), (attention, d), (d, 2 * f), (f, d)];
        _inputs = [.. shapes.Select(s => Fp8Operand.Declare(arena, tokens, s.In, Fp8Format.E4M3))];
        _weights = [.. shapes.Select(s => Fp8Operand.Declare(arena, s.Out, s.In, Fp8Format.E4M3))];
        _gradients = [.. shapes.Select(s => Fp8Operand.Declare(arena, tokens, s.Out, Fp8Format.E5M2))];
    }

    /// <summary>[T, in].</summary>
    public Fp8Operand Input(LinearLayer layer, int tokens) => _inputs[(int)layer].Prefix(tokens);

    /// <summary>[out, in].</summary>
    public Fp8Operand Weight(LinearLayer layer) => _weights[(int)layer];

    /// <summary>[T, out].</summary>
    public Fp8Operand Gradient(LinearLayer layer, int tokens) => _gradients[(int)layer].Prefix(tokens);
}
