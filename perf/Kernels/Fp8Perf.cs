using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>8-bit copies of activations, weights and gradients at the shapes of Qwen2.5-Coder-1.5B and 7B.</summary>
public static class Fp8Perf
{
    /// <summary>Every case: one copy, and both.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size)
    {
        (int Rows, int Columns)[] shapes = size switch
        {
            PerfSize.Small => [(16, 32), (64, 48)],
            PerfSize.Cpu => [(2560, 1536), (1536, 8960), (2560, 3584), (3584, 18944)],
            _ => [(10240, 1536), (10240, 8960), (4096, 3584), (4096, 18944)],
        };
        foreach (var (rows, columns) in shapes)
        {
            yield return Quantize("E4M3", Fp8Format.E4M3, rows, columns, transposed: false);
            yield return Quantize("E5M2 twice", Fp8Format.E5M2, rows, columns, transposed: true);
        }
    }

    private static PerfCase Quantize(string name, Fp8Format format, int rows, int columns, bool transposed) =>
        new($"Fp8.Quantize bf16 {name}", $"{rows}x{columns}", Fp8.QuantizeCost(rows, columns, 2, transposed ? 2 : 1), p =>
        {
            var x = p.Random<BFloat16>(rows, columns);
            var operand = p.Fp8(rows, columns, format, transposed);
            p.Checked("scale", operand.Scale);
            p.Checked(transposed ? "transposed" : "values", transposed ? operand.Transposed : operand.Values);
            return stream => Fp8.Quantize(stream, x, operand);
        });
}
