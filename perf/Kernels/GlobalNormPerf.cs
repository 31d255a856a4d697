using Z1Coder.Kernels;

namespace Z1Coder.Perf;

/// <summary>The gradient norm over one large tensor.</summary>
public static class GlobalNormPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size)
    {
        var elements = size switch { PerfSize.Small => 70_001, PerfSize.Cpu => 32 << 20, _ => 256 << 20 };
        yield return new("GlobalNorm.SumOfSquares fp32", $"{elements}", GlobalNorm.SumOfSquaresCost(elements), p =>
        {
            var gradient = p.Random<float>(elements);
            var sum = double.NaN;
            p.Checked("sum", () => sum);
            return stream => sum = GlobalNorm.SumOfSquares(stream, gradient);
        });
        yield return new("GlobalNorm.ChunkSums fp32", $"{elements}", GlobalNorm.SumOfSquaresCost(elements), p =>
        {
            var (gradient, sums) = (p.Random<float>(elements), p.Output<double>("sums", (elements + 1023) / 1024));
            return stream => GlobalNorm.ChunkSums(stream, gradient, 1024, sums);
        });
    }
}
