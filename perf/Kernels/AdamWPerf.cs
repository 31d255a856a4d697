using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>One optimizer step over one large tensor.</summary>
public static class AdamWPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size) => size switch
    {
        PerfSize.Small => [Case<BFloat16>(1003, "bf16"), Case<BFloat16>(1, "bf16")],
        PerfSize.Cpu => [Case<BFloat16>(8 << 20, "bf16"), Case<float>(8 << 20, "fp32")],
        _ => [Case<BFloat16>(46_797_824, "bf16")],
    };

    private static PerfCase Case<T>(int elements, string dtype)
        where T : unmanaged => new($"AdamW.Step {dtype}", $"{elements}", AdamW.StepCost<T>(elements), p =>
        {
            var (gradient, master) = (p.Random<float>(elements), p.Checked("master", p.Random<float>(elements)));
            var (m, v) = (p.Checked("m", p.Random<float>(elements)), p.Checked("v", p.Empty<float>(elements)));
            var weight = p.Output<T>("weight", elements);
            var step = 0L;
            return stream => AdamW.Step(stream, gradient, master, m, v, weight, new AdamWOptions(1e-4), ++step, 1f);
        });
}
