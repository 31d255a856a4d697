using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Rotary embedding at the head shapes of Qwen2.5-Coder 0.5B, 1.5B and 7B.</summary>
public static class RopePerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size) => size switch
    {
        PerfSize.Small => [Case<BFloat16>(9, 3, 1, 64, "bf16"), Case<BFloat16>(5, 2, 2, 16, "bf16")],
        PerfSize.Cpu =>
        [
            Case<BFloat16>(8192, 14, 2, 64, "bf16"), Case<BFloat16>(4096, 12, 2, 128, "bf16"), Case<float>(4096, 12, 2, 128, "fp32"),
        ],
        _ => [Case<BFloat16>(16384, 14, 2, 64, "bf16"), Case<BFloat16>(10240, 12, 2, 128, "bf16"), Case<BFloat16>(8192, 28, 4, 128, "bf16")],
    };

    private static PerfCase Case<T>(int tokens, int queryHeads, int keyHeads, int headDim, string dtype)
        where T : unmanaged =>
        new($"Rope.Forward {dtype}", $"{tokens}x{queryHeads}+{keyHeads}x{headDim}", Rope.ForwardCost<T>(tokens, queryHeads + keyHeads, headDim), p =>
        {
            var table = p.Declare(arena => new RopeTable(arena, 1280, headDim, 1e6));
            table.Fill();
            var qkv = p.Checked("qkv", p.Random<T>(tokens, (queryHeads + (2 * keyHeads)) * headDim));
            var positions = p.Ints([.. Enumerable.Range(0, tokens).Select(t => t % 1280)]);
            return stream => Rope.Forward(stream, qkv, positions, table, queryHeads + keyHeads, headDim);
        });
}
