using Xunit;
using Z1Coder.Perf;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime.Collectives;

/// <summary>The NCCL path on hostcuda, with ranks that are threads of this process.</summary>
[Collection("hostcuda")]
public sealed class NcclCollectiveTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Every_operation_is_its_definition(int size) => NcclRanks.Run(size, (ranks, stream) =>
    {
        foreach (var result in CollectiveSelfTest.Run(ranks, stream))
        {
            Assert.True(result.Passed, $"rank {ranks.Rank}: {result.Name}: {result.Detail}");
        }
    });
}
