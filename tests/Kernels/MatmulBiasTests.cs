using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>The sum over rows that a bias gradient is, on a device; the CPU's is in MatmulTests.</summary>
[Collection("hostcuda")]
public sealed class MatmulBiasTests
{
    [Theory]
    [InlineData(0, 5)]
    [InlineData(1, 1)]
    [InlineData(7, 8)]
    [InlineData(64, 33)]
    [InlineData(65, 264)]
    [InlineData(131, 257)]
    [InlineData(4200, 40)]                              // stretches longer than their least length
    public void Backward_bias_is_the_sum_of_the_rows(int rows, int columns)
    {
        using var bench = new KernelBench("hostcuda");
        var (dy, dbias) = (bench.Rows<BFloat16>(rows, columns), bench.Output<float>(new Shape(columns)));
        var values = KernelBench.Doubles(dy);
        var (expected, size) = (new double[columns], new double[columns]);
        for (var i = 0; i < values.Length; i++)
        {
            expected[i % columns] += values[i];
            size[i % columns] += Math.Abs(values[i]);
        }

        var (dy1, dbias1) = (bench.Put(dy), bench.Put(dbias));
        Matmul.BackwardBias(bench.Stream, dy1, dbias1, accumulate: false);
        bench.Get(dbias1, dbias);

        // A row is added at most: rows of its warp in a stretch, 8 warps, stretches of an eighth, 8 eighths.
        var roundings = (Math.Max(64, (rows + 63) / 64) / 8) + 8 + 8 + 8 + 1;
        KernelCheck.EachWithin(dbias, expected, c => roundings * KernelCheck.Eps * size[c]);
        Matmul.BackwardBias(bench.Stream, dy1, dbias1, accumulate: true);
        bench.Get(dbias1, dbias);
        KernelCheck.EachWithin(dbias, [.. expected.Select(v => 2 * v)], c => ((2 * roundings) + 2) * KernelCheck.Eps * size[c]);
        KernelCheck.SameBitsTwice(() =>
        {
            Matmul.BackwardBias(bench.Stream, dy1, dbias1, accumulate: false);
            return [bench.Bits(dbias1)];
        });
    }
}
