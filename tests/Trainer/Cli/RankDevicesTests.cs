using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Cli;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>Which cores and which GPU are a rank's.</summary>
public sealed class RankDevicesTests
{
    [Theory]
    [InlineData("none", 1, 16, 16, 16)]
    [InlineData("z1 launch", 4, 16, 16, 4)]
    [InlineData("z1 launch", 3, 16, 16, 5)]
    [InlineData("z1 launch", 8, 4, 4, 1)]                      // more ranks than cores
    [InlineData("z1 launch", 2, 4, 64, 2)]                     // a container of four cores on a machine of 64: the ranks share them
    [InlineData("Open MPI", 2, 16, 16, 8)]
    [InlineData("Open MPI", 2, 1, 16, 1)]                      // bound to one core each
    [InlineData("Slurm", 4, 8, 64, 8)]                         // --cpus-per-task=8: they are this rank's alone
    [InlineData("Slurm", 4, 64, 64, 16)]
    public void Ranks_share_the_cores_that_nobody_has_dealt_out(string launcher, int localSize, int allowed, int online, int expected)
    {
        var variables = launcher switch
        {
            "none" => [],
            "z1 launch" => RankEnvironment.ForChild(1, 0, localSize, 2000, "token").ToDictionary(),
            "Open MPI" => new() { ["OMPI_COMM_WORLD_RANK"] = "0", ["OMPI_COMM_WORLD_SIZE"] = $"{localSize}" },
            _ => new Dictionary<string, string> { ["SLURM_PROCID"] = "0", ["SLURM_STEP_NUM_TASKS"] = $"{localSize}", ["SLURM_LOCALID"] = "0" },
        };
        var ranks = RankEnvironment.Detect(variables);
        Assert.Equal((launcher, localSize), (ranks.Launcher, ranks.LocalSize));
        Assert.Equal(expected, Devices.Share(ranks, allowed, online));
    }

    [Theory]
    [InlineData(null, false)]
    [InlineData("", false)]
    [InlineData("0,1", false)]
    [InlineData("3", true)]
    [InlineData("GPU-8932f937", true)]
    public void A_launcher_that_shows_each_rank_one_GPU_has_dealt_them_out(string? visible, bool own) => Assert.Equal(own, Devices.HasOneDeviceOfItsOwn(visible));
}
