using Xunit;
using Z1Coder.Tests.Kernels;
using Z1Coder.Tests.Trainer.Cli;

namespace Z1Coder.Tests.Runtime.Collectives;

/// <summary>The NCCL path on hostcuda between processes, as CI runs it in place of GPUs: <c>z1 selftest collectives</c> in every
/// rank.</summary>
[Collection("hostcuda")]
public sealed class NcclProcessTests
{
    private const int Killed = 137;

    public NcclProcessTests()
    {
        _ = KernelDevices.HostCuda;                             // skips where hostcuda is absent
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void Every_operation_is_its_definition_on_every_rank(int size)
    {
        var ranks = Run(size, "--backend", "nccl");
        for (var rank = 0; rank < size; rank++)
        {
            Assert.Matches($"^rank {rank} of {size} over nccl on hostcuda 0 .*: ([0-9]+) of \\1 checks passed\n$", ranks[rank].Succeeded().Output);
        }
    }

    [Fact]
    public void Operations_that_differ_are_named()
    {
        foreach (var rank in Run(2, "--plant", "mismatch"))
        {
            rank.FailedWith("at operation 7 rank ", "rank 0", "ncclReduceScatter(count 1, float32, sum)", "rank 1 ", "ncclBroadcast(count 20, int8, root 0)");
        }
    }

    [Fact]
    public void A_rank_that_does_not_come_is_reported_with_what_every_rank_does()
    {
        var ranks = Run(2, "--timeout", "2", "--plant", "sleep");
        foreach (var rank in ranks)
        {
            Assert.Equal(1, rank.ExitCode);
            Assert.Contains(
                "z1: time-out after 2 s: rank 0 waits in reduce-scatter #7 of 1 float; rank 1 is in no collective, last finished host-all-reduce #6 of 2 double",
                rank.Error, StringComparison.Ordinal);
            Assert.Contains("host-all-reduce #6 of 2 double: done ", rank.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_rank_that_is_killed_ends_the_others_and_is_named()
    {
        var ranks = Run(3, "--plant", "death");
        Assert.Equal(Killed, ranks[2].ExitCode);
        ranks[0].FailedWith("rank 2 (", " died");
        ranks[1].FailedWith("rank 2 (", " died");
    }

    [Theory]
    [InlineData("ncclAllReduce:0:3", "ncclAllReduce(")]
    [InlineData("ncclGetUniqueId:0:2", "ncclGetUniqueId(")]
    [InlineData("ncclCommInitRankConfig:0:4", "ncclCommInitRank(")]
    public void A_call_that_fails_ends_every_rank_with_one_sentence(string injection, string call)
    {
        foreach (var rank in RankProcesses.Run(2, Arguments("--backend", "nccl"), ("Z1_HOSTCUDA_INJECT", injection)))
        {
            rank.FailedWith(call, " failed with nccl");
        }
    }

    [Fact]
    public void Without_the_library_there_is_one_sentence()
    {
        var lines = Z1.RunWith("Z1_NCCL", "off", "doctor").Succeeded().Output;
        Assert.Contains("NCCL: left out by Z1_NCCL=off; several GPUs need it (install nvidia-nccl-cu12 of pip, or set Z1_NCCL", lines, StringComparison.Ordinal);
        Z1.Run("selftest", "collectives", "--backend", "nccl", "--device", "cpu").WasMisused("--backend nccl moves memory of CUDA devices");
    }

    private static Z1Result[] Run(int size, params string[] more) => RankProcesses.Run(size, Arguments(more));

    private static string[] Arguments(params string[] more) => ["selftest", "collectives", "--device", "hostcuda", .. more];
}
