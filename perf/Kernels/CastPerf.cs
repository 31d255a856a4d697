using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Casts of the weights of one decoder layer of Qwen2.5-Coder 1.5B.</summary>
public static class CastPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size)
    {
        var elements = size == PerfSize.Small ? 1003 : 46_797_824;
        yield return new("Cast.Round bf16", $"{elements}", Cast.RoundCost<BFloat16>(elements), p =>
        {
            var (from, to) = (p.Random<float>(elements), p.Output<BFloat16>("to", elements));
            return stream => Cast.Round(stream, from, to);
        });
        yield return new("Cast.RoundStochastic bf16", $"{elements}", Cast.RoundCost<BFloat16>(elements), p =>
        {
            var (from, to) = (p.Random<float>(elements), p.Output<BFloat16>("to", elements));
            return stream => Cast.RoundStochastic(stream, from, to, 1, 1);
        });
        yield return new("Cast.Widen bf16", $"{elements}", Cast.RoundCost<BFloat16>(elements), p =>
        {
            var (from, to) = (p.Random<BFloat16>(elements), p.Output<float>("to", elements));
            return stream => Cast.Widen(stream, from, to);
        });
        yield return new("Cast.Widen + Add bf16", $"{elements}", Cast.RoundCost<BFloat16>(elements) + Cast.AddCost<BFloat16>(elements), p =>
        {
            var (from, to) = (p.Random<BFloat16>(elements), p.Output<float>("to", elements));
            return stream =>
            {
                Cast.Widen(stream, from, to);           // a repetition must not add to what the one before has left
                Cast.Add(stream, from, to);
            };
        });
    }
}
