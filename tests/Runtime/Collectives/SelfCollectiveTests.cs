using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;

namespace Z1Coder.Tests.Runtime;

[Collection("hostcuda")]
public sealed class SelfCollectiveTests
{
    [Fact]
    public void One_rank_copies_or_does_nothing()
    {
        using var group = new SelfCollective();
        using var stream = new CpuStream(1);
        using var arena = new Arena("self");
        var (a, b, c) = (arena.Declare<float>(5), arena.Declare<float>(5), arena.Declare<float>(5));
        arena.Allocate();
        a.CopyFrom([1, 2, 3, 4, 5]);
        b.Span.Fill(float.NaN);
        c.Span.Fill(float.NaN);
        group.AllReduce(stream, a, Reduction.Sum);
        group.ReduceScatter(stream, a, b, Reduction.Max);
        group.Broadcast(stream, a, 0);
        group.AllGather(stream, b, b);
        group.Wait(stream, group.AllToAll(stream, b, c));
        double[] values = [7, double.NaN];
        group.AllReduce(values, Reduction.Sum);
        group.Barrier();
        Assert.Equal([1, 2, 3, 4, 5], a.Span.ToArray());
        Assert.Equal([1, 2, 3, 4, 5], b.Span.ToArray());
        Assert.Equal([1, 2, 3, 4, 5], c.Span.ToArray());
        Assert.Equal([7, double.NaN], values);
        Assert.Equal((0, 1, "self"), (group.Rank, group.Size, group.Backend));
        Assert.Throws<ArgumentException>(() => group.AllGather(stream, a.Rows(0, 2), b));
        Assert.Throws<ArgumentOutOfRangeException>(() => group.Broadcast(stream, a, 1));
        using var part = group.Split(3, "part");
        Assert.Equal(1, part.Size);
        group.Abort("told to");
        Assert.Equal("rank 0 gave up: told to", Assert.Throws<CollectiveException>(group.Barrier).Message);
    }

    [Fact]
    public void Host_backends_refuse_a_device()
    {
        using var stream = new CudaStream(KernelDevices.HostCuda);
        using var arena = stream.CreateArena("device");
        var onDevice = arena.Declare<float>(4);
        arena.Allocate();
        using var host = new CpuStream(1);
        using var group = ThreadCollective.CreateGroup(1)[0];
        Assert.Contains("moves host memory",
            Assert.Throws<NotSupportedException>(() => group.AllReduce(stream, onDevice, Reduction.Sum)).Message);
        using var here = new Arena("host");
        var onHost = here.Declare<float>(4);
        here.Allocate();
        Assert.Contains("ordered with a CPU stream",
            Assert.Throws<NotSupportedException>(() => group.AllReduce(stream, onHost, Reduction.Sum)).Message);
    }
}
