using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

[Collection("alone")]
public sealed class CollectiveAllocationTests
{
    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void No_call_allocates_once_warm(string backend)
    {
        var least = long.MaxValue;
        Ranks.Run(backend, 2, group =>
        {
            using var stream = new CpuStream(1);
            using var arena = new Arena("allocation");
            var (data, whole, other) = (arena.Declare<float>(10_000), arena.Declare<float>(20_000), arena.Declare<float>(20_000));
            var halves = arena.Declare<BFloat16>(77);
            arena.Allocate();
            Span<double> values = stackalloc double[3];
            for (var round = 0; round < 40; round++)
            {
                var before = GC.GetTotalAllocatedBytes(precise: true);
                for (var repeat = 0; repeat < 5; repeat++)
                {
                    group.AllReduce(stream, data, Reduction.Sum);
                    group.AllReduce(stream, halves, Reduction.Max);
                    group.AllGather(stream, data, whole);
                    group.AllToAll(stream, whole, other);
                    group.Broadcast(stream, data, 1);
                    group.Wait(stream, group.ReduceScatter(stream, whole, data, Reduction.Sum));
                    group.AllReduce(values, Reduction.Sum);
                    group.Barrier();
                }

                if (group.Rank == 0)
                {
                    least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
                }
            }
        });

        // the least of many rounds: whatever else lives in the process may allocate now and then, a call of ours would every time
        Assert.Equal(0, least);
    }
}
