using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Tests.Trainer.Cli;

namespace Z1Coder.Tests.Trainer.Launch;

/// <summary>deploy/slurm/train.sbatch as it is, on a real Slurm of one node.</summary>
[Collection("launch")]
public sealed class SlurmTests
{
    [Fact]
    public void The_batch_script_trains_two_ranks_stops_before_its_time_and_goes_on_by_itself()
    {
        using var run = new RankedRun();
        using var cluster = SlurmCluster.Start();
        var ordered = RankedRun.Ordered;
        // a whole run
        Submit(cluster, run, "whole", ordered);
        cluster.WaitForJobs(100);
        Assert.Contains($"stage1 step {RankedRun.Steps}/{RankedRun.Steps}", File.ReadAllText(run["whole.out"]));
        Assert.Contains("\"launcher\": \"Slurm\"", File.ReadAllText(Path.Combine(run["whole"], "environment.json")));
        run.Same(run.One(), "whole");

        // Stopped as Slurm stops it before the time limit: the signal goes to the batch shell. The run is short: one that ended before is begun again.
        var (name, output) = ("", "");
        for (var again = 0; !output.Contains("stopped by SIGTERM", StringComparison.Ordinal); again++)
        {
            Assert.True(again < 5, $"it ended before the signal each time: {output}");
            name = $"stopped{again}";
            var job = Submit(cluster, run, name, ordered);
            Wait(cluster, run, name, " step 2/");
            cluster.Run("scancel", [], "--signal=USR1", "--batch", job);
            cluster.WaitForJobs(100);
            output = File.ReadAllText(run[$"{name}.out"]);
        }

        Assert.Contains("saved before the time limit", output);
        Assert.Contains("continues after step", output);
        run.Same(run.One(), name);
    }

    private static string Submit(SlurmCluster cluster, RankedRun run, string name, string[] more)
    {
        var script = Path.Combine(Goldens.RepositoryRoot, "deploy", "slurm", "train.sbatch");
        var submitted = cluster.Run(
            "sbatch", [("Z1", Z1.Program)],
            [
                "--ntasks-per-node=2", "--gpus-per-node=0", "--cpus-per-task=1", "--time=5", $"--output={run[name]}.out", script, run.Recipe, run[name], .. more,
            ]).Succeeded();
        return Regex.Match(submitted.Output, @"Submitted batch job (\d+)").Groups[1].Value;
    }

    private static void Wait(SlurmCluster cluster, RankedRun run, string name, string text)
    {
        var output = run[$"{name}.out"];
        Assert.True(
            SpinWait.SpinUntil(() => File.Exists(output) && File.ReadAllText(output).Contains(text, StringComparison.Ordinal), TimeSpan.FromSeconds(90)),
            $"the job never said '{text}': {(File.Exists(output) ? File.ReadAllText(output) : "no output")}\n{cluster.State()}");
    }
}
