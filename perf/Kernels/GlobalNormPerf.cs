using Z1Coder.Kernels;

namespace Z1Coder.Perf;

/// <summary>The gradient norm over one large tensor.</summary>
public static class GlobalNormPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases()
    {
        const int Elements = 32 << 20;
        yield return new("GlobalNorm.SumOfSquares fp32", $"{Elements}", GlobalNorm.SumOfSquaresCost(Elements), p =>
        {
            var gradient = p.Random<float>(Elements);
            return stream => GlobalNorm.SumOfSquares(stream, gradient);
        });
    }
}
