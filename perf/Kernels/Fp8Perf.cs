using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>8-bit copies of activations, weights and gradients at the shapes of Qwen2.5-Coder-1.5B and 7B.</summary>
public static class Fp8Perf
{
    private static readonly (int Rows, int Columns)[] s_shapes = [(2560, 1536), (1536, 8960), (2560, 3584), (3584, 18944)];

    /// <summary>Every case: one copy, and both.</summary>
    public static IEnumerable<PerfCase> Cases()
    {
        foreach (var (rows, columns) in s_shapes)
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
            return stream => Fp8.Quantize(stream, x, operand);
        });
}
