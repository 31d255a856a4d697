using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Tests.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>Scratch memory of a device: kept while captured graphs may use it, gone with its stream.</summary>
[Collection("hostcuda")]
public sealed class ScratchTests
{
    [Fact]
    public void A_piece_that_was_outgrown_stays_until_the_stream_goes()
    {
        using var bench = new CudaBench();
        var before = bench.Device.LiveHandles;
        using var stream = new CudaStream(bench.Device);
        var small = Scratch.Of<float>(stream, 1000);
        Assert.Same(bench.Device, small.Device);
        using var graph = stream.Capture(() => stream.Fill(small, 1));
        var large = Scratch.Of<float>(stream, 1 << 20);
        Assert.Equal(large.Shape.Count, Scratch.Of<float>(stream, 1 << 20).Count);
        stream.Launch(graph);                           // would fault on freed memory
        var host = new float[1000];
        stream.Download(small, host);
        Assert.All(host, v => Assert.Equal(0x01010101, BitConverter.SingleToInt32Bits(v)));
        Assert.Equal(before + 4, bench.Device.LiveHandles);
        graph.Dispose();
        stream.Dispose();
        Assert.Equal(before, bench.Device.LiveHandles);
    }

    [Fact]
    public void Scratch_of_a_device_starts_as_NaN_so_that_a_sum_nobody_wrote_shows()
    {
        using var bench = new CudaBench();
        Assert.All(bench.Read(Scratch.Of<float>(bench.Stream, 100)), v => Assert.True(float.IsNaN(v)));
    }
}
