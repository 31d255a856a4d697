using System.Diagnostics;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Trainer.Cli;

namespace Z1Coder.Tests.Trainer.Launch;

/// <summary>Ranks that are processes, started as operators start them: the same numbers whoever starts them and whatever carries them.</summary>
[Collection("launch")]
public sealed class LaunchTests(RankedRun run) : IClassFixture<RankedRun>
{
    private static readonly (string, string)[] s_mpiAsRoot = [("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")];

    private static string Deploy => Path.Combine(Goldens.RepositoryRoot, "deploy");

    private static string[] Ordered => RankedRun.Ordered;

    [Fact]
    public void Two_ranks_of_z1_launch_over_tcp_give_the_bits_of_one_process_and_any_number_goes_on()
    {
        var two = Z1.Run(RankedRun.Launch(2, [], run.Train("tcp", [.. Ordered, "--backend", "tcp"]))).Succeeded();
        Assert.Contains($"stage1 step {RankedRun.Steps}/{RankedRun.Steps}", two.Output);
        Assert.DoesNotContain("[rank 1]", two.Output);                        // the others have nothing to say
        run.Same(run.One(), "tcp");

        // one rank, stopped, goes on as three that share out everything
        var (mixed, _) = run.Stopped("mixed", d => run.Train(d, Ordered), 5, z1 => z1.Id);
        var three = Z1.Run(RankedRun.Launch(3, [], run.Train(mixed, [.. Ordered, "--set", "parallel.strategy=fsdp", "--resume"]))).Succeeded();
        Assert.Contains("the run began with another 'parallel' section", three.Output);
        Assert.Contains("continues after step", three.Output);
        run.Same(run.One(), mixed);
        Z1.Run(run.Train(mixed, [.. Ordered, "--set", "train.lr=0.5", "--resume"])).FailedWith("lr: 0.01", "lr: 0.5", "a resumed run keeps its recipe");
    }

    [Fact]
    public void Two_ranks_of_mpirun_give_the_same_bits_over_MPI_and_over_tcp()
    {
        Require("mpirun");
        foreach (var backend in new[] { "mpi", "tcp" })
        {
            using var mpi = Z1.StartProgram("mpirun", s_mpiAsRoot, ["-n", "2", "--oversubscribe", Z1.Program, .. run.Train($"mpirun-{backend}", [.. Ordered, "--backend", backend])]);
            var result = mpi.Wait();
            Assert.True(result.ExitCode == 0, result.Error + result.Output);
            Assert.Contains($"\"collectives\": \"{backend}\"", File.ReadAllText(Path.Combine(run[$"mpirun-{backend}"], "environment.json")));
            run.Same(run.One(), $"mpirun-{backend}");
        }
    }

    [Fact]
    public void Two_ranks_on_hostcuda_over_NCCL_give_the_bits_of_one()
    {
        if (!CudaDevice.IsAvailable(CudaDriver.HostCuda, out var reason))
        {
            Assert.Skip(reason);
        }

        string[] device = ["--device", "hostcuda"];
        Z1.Run(RankedRun.Launch(2, [], run.Train("nccl", [.. Ordered, .. device, "--backend", "nccl"]))).Succeeded();
        Assert.Contains("\"collectives\": \"nccl\"", File.ReadAllText(Path.Combine(run["nccl"], "environment.json")));
        run.Same(run.One("hostcuda"), "nccl");
    }

    [Fact]
    public void The_bare_script_starts_two_nodes_by_hand()
    {
        var script = Path.Combine(Deploy, "bare", "train-nodes.sh");
        var environment = new[] { ("Z1", Z1.Program), ("LOGS", run["logs"]), ("MASTER_PORT", $"{FreePort()}") };
        string[] verb = run.Train("bare", [.. Ordered, "--timeout", "30"]);
        using var second = Z1.StartProgram("bash", environment, [script, "2", "1", "localhost", "1", .. verb]);
        using var first = Z1.StartProgram("bash", environment, [script, "2", "0", "localhost", "1", .. verb]);
        first.Wait().Succeeded();
        second.Wait().Succeeded();
        run.Same(run.One(), "bare");
        Assert.Contains($"stage1 step {RankedRun.Steps}/", File.ReadAllText(Path.Combine(run["logs"], "rank-0.log")));
        Assert.Empty(File.ReadAllText(Path.Combine(run["logs"], "rank-1.log")));

        using var wrong = Z1.StartProgram("bash", environment, script, "2", "2", "localhost", "1", "train");
        var misused = wrong.Wait();
        Assert.Equal(2, misused.ExitCode);
        Assert.Contains("nodes go from 0 to 1", misused.Error);
    }

    [Fact]
    public void Scripts_are_bash()
    {
        foreach (var script in Directory.GetFiles(Deploy, "*", SearchOption.AllDirectories).Where(f => f.EndsWith(".sh", StringComparison.Ordinal) || f.EndsWith(".sbatch", StringComparison.Ordinal)))
        {
            using var bash = Z1.StartProgram("bash", [], "-n", script);
            bash.Wait().Succeeded();
            if (OperatingSystem.IsLinux())
            {
                Assert.True(File.GetUnixFileMode(script).HasFlag(UnixFileMode.UserExecute), $"{script} cannot be run");
            }
        }
    }

    [Fact]
    public void Ranks_with_different_recipes_do_not_start()
    {
        var environment = new[] { ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", $"{FreePort()}") };
        using var first = Z1.StartProgram(Z1.Program, [.. environment, ("RANK", "0")], run.Train("refused"));
        using var second = Z1.StartProgram(Z1.Program, [.. environment, ("RANK", "1")], run.Train("refused", "--set", "train.lr=2e-2"));
        second.Wait().FailedWith("rank 1 (", "rank 0 'z1 ");
        first.Wait().FailedWith("rank 1 (", "rank 0 'z1 ");
        Assert.False(Directory.Exists(run["refused"]));
    }

    [Fact]
    public void What_z1_launch_cannot_do_is_one_sentence()
    {
        Z1.Run("launch", "--", "train", run.Recipe).WasMisused("-n");
        Z1.Run("launch", "-n", "0", "--", "train", run.Recipe).WasMisused("-n 0: must be from 1");
        Z1.Run("launch", "-n", "2", "--restarts", "1", "--", "doctor").WasMisused("--restarts", "'doctor'");
        Z1Here.Run(run.Train("refused", "--backend", "udp")).WasMisused("udp");
        Z1Here.Run(run.Train("refused", "--backend", "nccl")).WasMisused("--backend nccl", "--device cuda");
        Z1.RunWith("WORLD_SIZE", "4", run.Train("refused")).FailedWith("WORLD_SIZE=4 without RANK");
        Z1Here.Run(RankedRun.Launch(2, [], ["train", run.Recipe, "--nonsense"])).WasMisused("every rank would say", "'--nonsense'");
        var misused = Z1.Run(RankedRun.Launch(2, [], ["perf", "run", "--suite", "steps", "--only", "nonsense"]));      // what only a rank itself finds
        Assert.Equal(2, misused.ExitCode);
        Assert.Contains("[rank 1] z1: ", misused.Error);
        Assert.Matches(@"z1: rank [01] ended with exit code 2 after \d", misused.Error);
    }

    private static void Require(string program)
    {
        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Append("/usr/sbin");
        if (!folders.Any(f => File.Exists(Path.Combine(f, program))))
        {
            Assert.Skip($"{program} is not installed");
        }
    }

    private static int FreePort()
    {
        using var listener = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        listener.Start();
        return ((System.Net.IPEndPoint)listener.LocalEndpoint).Port;
    }
}
