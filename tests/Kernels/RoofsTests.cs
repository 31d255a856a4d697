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
}
