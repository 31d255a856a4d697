using System.Diagnostics;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Trainer.Cli;

namespace Z1Coder.Tests.Runtime.Collectives;

/// <summary>The MPI backend under the launcher of each implementation that is installed.</summary>
public sealed class MpiTests
{
    private static readonly (string, string)[] s_environment =
    [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"), ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
    ];

    [Theory]
    [InlineData("Open MPI", 2)]
    [InlineData("Open MPI", 3)]
    [InlineData("MPICH", 2)]
    public void Every_operation_is_its_definition(string implementation, int size)
    {
        var result = Mpirun(implementation, size);
        Assert.True(result.ExitCode == 0, $"exit code {result.ExitCode}\n{result.Error}{result.Output}");
        for (var rank = 0; rank < size; rank++)
        {
            Assert.Matches($"rank {rank} of {size} over mpi on cpu .*: ([0-9]+) of \\1 checks passed\n", result.Output);
        }
    }

    [Theory]
    [InlineData("Open MPI")]
    [InlineData("MPICH")]
    public void A_rank_that_does_not_come_is_reported_and_the_job_ends(string implementation)
    {
        var result = Mpirun(implementation, 2, "--timeout", "2", "--plant", "sleep");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains(
            "time-out after 2 s: rank 0 waits in reduce-scatter #7 of 1 float; rank 1 is in no collective, last finished host-all-reduce #6 of 2 double",
            result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Open MPI")]
    [InlineData("MPICH")]
    public void Operations_that_differ_are_named_and_the_job_ends(string implementation)
    {
        var result = Mpirun(implementation, 2, "--plant", "mismatch");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("broadcast from 0 of 5 float", result.Error, StringComparison.Ordinal);
        Assert.Contains("reduce-scatter of 1 float", result.Error, StringComparison.Ordinal);
        Assert.Contains("#7", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Open MPI")]
    [InlineData("MPICH")]
    public void A_rank_that_is_killed_ends_the_job_in_seconds(string implementation)
    {
        var watch = Stopwatch.StartNew();
        var result = Mpirun(implementation, 2, "--plant", "death");
        Assert.NotEqual(0, result.ExitCode);
        Assert.DoesNotContain("checks passed", result.Output, StringComparison.Ordinal);
        Assert.True(watch.Elapsed.TotalSeconds < 30, $"{watch.Elapsed.TotalSeconds:F1} s");
    }

    [Fact]
    public void Without_the_library_there_is_one_sentence()
    {
        Assert.Null(Mpi.TryLoad("off", mpichFirst: false, out var sentence));
        Assert.Equal(
            "MPI: left out by Z1_MPI=off; processes on CPUs reduce over tcp (install openmpi-bin or mpich, or set Z1_MPI to the path of libmpi.so.40 or libmpich.so.12).",
            sentence);
        Z1.RunWith("Z1_MPI", "off", "selftest", "collectives", "--backend", "mpi").FailedWith("MPI: left out by Z1_MPI=off");
    }

    [Fact]
    public void A_library_that_is_no_MPI_is_refused()
    {
        Assert.Null(Mpi.TryLoad("libm.so.6", mpichFirst: false, out var sentence));
        Assert.Contains("cannot be used (it has no MPI_Init_thread)", sentence, StringComparison.Ordinal);
    }

    private static Z1Result Mpirun(string implementation, int size, params string[] more)
    {
        var launcher = implementation == "Open MPI" ? RankProcesses.Find("mpirun.openmpi") : RankProcesses.Find("mpiexec.mpich", "mpirun.mpich");
        if (launcher is null)
        {
            Assert.Skip($"{implementation}: its launcher is not installed (apt-get install {(implementation == "MPICH" ? "mpich" : "openmpi-bin")})");
        }

        return RankProcesses.Launch(launcher, ["-n", $"{size}", Z1.Program, "selftest", "collectives", "--backend", "mpi", .. more], s_environment);
    }
}
