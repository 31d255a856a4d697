using Xunit;
using Z1Coder.Perf;

namespace Z1Coder.Tests.Perf;

public sealed class CollectiveCaseTests
{
    /// <summary>The factors of NCCL-tests' doc/PERFORMANCE.md, and bytes counted by hand for a buffer of 1 MiB.</summary>
    [Theory]
    [InlineData("all-reduce", 1, 0.0, 0.0)]
    [InlineData("all-gather", 1, 0.0, 2.0)]
    [InlineData("all-reduce", 2, 1.0, 2.0)]
    [InlineData("all-reduce", 4, 1.5, 2.0)]
    [InlineData("reduce-scatter", 4, 0.75, 1.25)]
    [InlineData("all-gather", 2, 0.5, 1.5)]
    [InlineData("all-to-all", 4, 0.75, 2.0)]
    public void Bus_bandwidth_and_floor_follow_their_conventions(string operation, int ranks, double bus, double moved)
    {
        var which = new CollectiveCase(operation, 1 << 20, ranks);
        Assert.Equal((bus, moved * (1 << 20), "1 MiB"), (which.BusFactor, which.MemoryBytes, which.Shape));
    }

    [Fact]
    public void Every_backend_of_this_machine_is_measured()
    {
        using var table = new StringWriter();
        var rows = CollectiveBench.RunInProcess(["all-reduce", "4 KiB"], table);
        Assert.Equal(
            ["all-reduce self x1", "all-reduce threads x2", "all-reduce threads x4", "all-reduce tcp x2", "all-reduce tcp x4"],
            rows.Select(r => r.Name));
        Assert.All(rows, r => Assert.True(r.P50 > 0 && r.Shape == "4 KiB"));
        Assert.Equal(1 + rows.Count, table.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
    }
}
