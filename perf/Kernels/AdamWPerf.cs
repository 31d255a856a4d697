using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>One optimizer step over one large tensor.</summary>
public static class AdamWPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases() => [Case<BFloat16>("bf16"), Case<float>("fp32")];

    private static PerfCase Case<T>(string dtype)
        where T : unmanaged
    {
        const int Elements = 8 << 20;
        return new($"AdamW.Step {dtype}", $"{Elements}", AdamW.StepCost<T>(Elements), p =>
        {
            var (gradient, master, m, v) = (p.Random<float>(Elements), p.Random<float>(Elements), p.Random<float>(Elements), p.Empty<float>(Elements));
            var weight = p.Empty<T>(Elements);
            var step = 0L;
            return stream => AdamW.Step(stream, gradient, master, m, v, weight, new AdamWOptions(1e-4), ++step, 1f);
        });
    }
}
