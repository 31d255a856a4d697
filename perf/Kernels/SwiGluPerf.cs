using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Gated activation at the intermediate sizes of Qwen2.5-Coder 0.5B and 1.5B.</summary>
public static class SwiGluPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases() =>
    [
        .. Cases<BFloat16>(2048, 4864, "bf16"),
        .. Cases<BFloat16>(1280, 8960, "bf16"),
        .. Cases<float>(1280, 4864, "fp32"),
    ];

    private static IEnumerable<PerfCase> Cases<T>(int rows, int columns, string dtype)
        where T : unmanaged
    {
        yield return new($"SwiGlu.Forward {dtype}", $"{rows}x{columns}", SwiGlu.ForwardCost<T>(rows, columns), p =>
        {
            var (gateUp, y) = (p.Random<T>(rows, 2 * columns), p.Empty<T>(rows, columns));
            return stream => SwiGlu.Forward(stream, gateUp, y);
        });
        yield return new($"SwiGlu.Backward {dtype}", $"{rows}x{columns}", SwiGlu.BackwardCost<T>(rows, columns), p =>
        {
            var (dy, gateUp, dgateUp) = (p.Random<T>(rows, columns), p.Random<T>(rows, 2 * columns), p.Empty<T>(rows, 2 * columns));
            return stream => SwiGlu.Backward(stream, dy, gateUp, dgateUp);
        });
    }
}
