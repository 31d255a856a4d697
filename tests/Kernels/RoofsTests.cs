using System.Runtime.Intrinsics.X86;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("alone")]
public sealed class RoofsTests
{
    [Fact]
    public void Measured_roofs_are_numbers_that_a_machine_can_have()
    {
        using var stream = new CpuStream(2);
        var roofs = Roofs.Measure(stream, quick: true);
        Assert.InRange(roofs.CopyBytesPerSecond, 1e7, 1e13);
        Assert.InRange(roofs.ReadBytesPerSecond, 1e7, 1e13);
        Assert.InRange(roofs.GemmFlopsPerSecond<float>(), 1e7, 1e15);
        Assert.InRange(roofs.GemmFlopsPerSecond<BFloat16>(), 1e7, 1e15);
        Assert.InRange(Roofs.FmaRate(stream, passes: 2), 1e6, 1e15);
    }

    [Fact]
    public void No_product_is_quicker_than_the_multiply_adds_it_is_made_of()
    {
        Assert.SkipUnless(Fma.IsSupported, "no fused multiply-adds in hardware");
        using var stream = new CpuStream(2);
        var backend = Matmul.Backend;
        Matmul.Backend = MatmulBackend.Managed;
        try
        {
            var (fma, product) = (0.0, 0.0);
            for (var round = 0; round < 5; round++)
            {
                fma = Math.Max(fma, Roofs.FmaRate(stream, passes: 20));
                product = Math.Max(product, Roofs.MeasureGemm<float>(stream));
            }

            Assert.True(fma >= 0.9 * product, $"multiply-adds {fma / 1e9:F0} GFLOP/s, products made of them {product / 1e9:F0}");
        }
        finally
        {
            Matmul.Backend = backend;
        }
    }
}
