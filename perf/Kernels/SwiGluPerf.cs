using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Gated activation at the intermediate sizes of Qwen2.5-Coder 0.5B, 1.5B and 7B.</summary>
public static class SwiGluPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size) => size switch
    {
        PerfSize.Small => [.. Cases<BFloat16>(7, 48, "bf16"), .. Cases<BFloat16>(3, 13, "bf16")],
        PerfSize.Cpu => [.. Cases<BFloat16>(2048, 4864, "bf16"), .. Cases<BFloat16>(1280, 8960, "bf16"), .. Cases<float>(1280, 4864, "fp32")],
        _ => [.. Cases<BFloat16>(16384, 4864, "bf16"), .. Cases<BFloat16>(10240, 8960, "bf16"), .. Cases<BFloat16>(4096, 18944, "bf16")],
    };

    private static IEnumerable<PerfCase> Cases<T>(int rows, int columns, string dtype)
        where T : unmanaged
    {
        yield return new($"SwiGlu.Forward {dtype}", $"{rows}x{columns}", SwiGlu.ForwardCost<T>(rows, columns), p =>
        {
            var (gateUp, y) = (p.Random<T>(rows, 2 * columns), p.Output<T>("y", rows, columns));
            return stream => SwiGlu.Forward(stream, gateUp, y);
        });
        yield return new($"SwiGlu.Backward {dtype}", $"{rows}x{columns}", SwiGlu.BackwardCost<T>(rows, columns), p =>
        {
            var (dy, gateUp, dgateUp) = (p.Random<T>(rows, columns), p.Random<T>(rows, 2 * columns), p.Output<T>("dgateUp", rows, 2 * columns));
            return stream => SwiGlu.Backward(stream, dy, gateUp, dgateUp);
        });
    }
}
