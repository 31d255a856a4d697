using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Casts of the weights of one decoder layer of Qwen2.5-Coder 1.5B.</summary>
public static class CastPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases()
    {
        const int Elements = 46_797_824;
        var shape = $"{Elements}";
        yield return new("Cast.Round bf16", shape, Cast.RoundCost<BFloat16>(Elements), p =>
        {
            var (from, to) = (p.Random<float>(Elements), p.Empty<BFloat16>(Elements));
            return stream => Cast.Round(stream, from, to);
        });
        yield return new("Cast.RoundStochastic bf16", shape, Cast.RoundCost<BFloat16>(Elements), p =>
        {
            var (from, to) = (p.Random<float>(Elements), p.Empty<BFloat16>(Elements));
            return stream => Cast.RoundStochastic(stream, from, to, 1, 1);
        });
        yield return new("Cast.Widen bf16", shape, Cast.RoundCost<BFloat16>(Elements), p =>
        {
            var (from, to) = (p.Random<BFloat16>(Elements), p.Empty<float>(Elements));
            return stream => Cast.Widen(stream, from, to);
        });
    }
}
