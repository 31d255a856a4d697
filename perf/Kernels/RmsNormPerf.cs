using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>RMS norm at the hidden sizes of Qwen2.5-Coder 0.5B, 1.5B and 7B.</summary>
public static class RmsNormPerf
{
    private const float Eps = 1e-6f;

    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size)
    {
        (int Rows, int Columns)[] shapes = size switch
        {
            PerfSize.Small => [(5, 896), (13, 33), (3, 7)],
            PerfSize.Cpu => [(8192, 896), (4096, 1536), (2048, 3584)],
            _ => [(16384, 896), (10240, 1536), (8192, 3584)],
        };
        foreach (var (rows, columns) in shapes)
        {
            foreach (var perfCase in Cases<BFloat16>(rows, columns, "bf16"))
            {
                yield return perfCase;
            }
        }

        foreach (var perfCase in size == PerfSize.Cpu ? Cases<float>(8192, 896, "fp32") : [])
        {
            yield return perfCase;
        }
    }

    private static IEnumerable<PerfCase> Cases<T>(int rows, int columns, string dtype)
        where T : unmanaged
    {
        var shape = $"{rows}x{columns}";
        yield return new($"RmsNorm.Forward {dtype}", shape, RmsNorm.ForwardCost<T>(rows, columns), p =>
        {
            var (x, w, y, rstd) = (p.Random<T>(rows, columns), p.Random<T>(columns), p.Output<T>("y", rows, columns), p.Output<float>("rstd", rows));
            return stream => RmsNorm.Forward(stream, x, w, y, rstd, Eps);
        });
        yield return new($"RmsNorm.ForwardResidual {dtype}", shape, RmsNorm.ForwardResidualCost<T>(rows, columns), p =>
        {
            var (x, residual, w) = (p.Random<T>(rows, columns), p.Random<T>(rows, columns), p.Random<T>(columns));
            var (sum, y, rstd) = (p.Output<T>("sum", rows, columns), p.Output<T>("y", rows, columns), p.Output<float>("rstd", rows));
            return stream => RmsNorm.ForwardResidual(stream, x, residual, w, sum, y, rstd, Eps);
        });
        yield return new($"RmsNorm.Backward {dtype}", shape, RmsNorm.BackwardCost<T>(rows, columns, residual: true), p =>
        {
            var (dy, x, residual, w) = (p.Random<T>(rows, columns), p.Random<T>(rows, columns), p.Random<T>(rows, columns), p.Random<T>(columns));
            var (rstd, dx, dw) = (p.Random<float>(rows), p.Output<T>("dx", rows, columns), p.Checked("dw", p.Random<float>(columns)));
            return stream => RmsNorm.Backward(stream, dy, x, w, rstd, residual, dx, dw, accumulate: true);
        });
    }
}
