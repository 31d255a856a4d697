using System.Diagnostics;
using Xunit;
using Z1Coder.Tests.Trainer.Cli;

namespace Z1Coder.Tests.Trainer.Launch;

/// <summary>The one-node Slurm cluster of slurm-one-node.sh; gone, with its daemons, when disposed.</summary>
internal sealed class SlurmCluster : IDisposable
{
    private const int CannotWork = 3;

    private readonly string _folder = Directory.CreateTempSubdirectory("z1-slurm-").FullName;
    private readonly Process _script;

    private SlurmCluster()
    {
        var path = Path.Combine(Goldens.RepositoryRoot, "tests", "Trainer", "Launch", "slurm-one-node.sh");
        _script = Process.Start(new ProcessStartInfo("bash", [path, _folder])
        {
            RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true,
            Environment = { ["PATH"] = $"{Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin" },
        })!;
    }

    /// <summary>For sbatch, srun, squeue and scancel.</summary>
    public (string, string) Configuration => ("SLURM_CONF", Path.Combine(_folder, "slurm.conf"));

    /// <summary>Up and ready; the test is skipped, with the reason, where Slurm is not installed or this is not root.</summary>
    public static SlurmCluster Start()
    {
        var cluster = new SlurmCluster();
        if (cluster._script.StandardOutput.ReadLine() == "ready")
        {
            return cluster;
        }

        var reason = cluster._script.StandardError.ReadToEnd().Trim();
        cluster._script.WaitForExit();
        var code = cluster._script.ExitCode;
        cluster.Dispose();
        if (code == CannotWork)
        {
            Assert.Skip(reason);
        }

        throw new InvalidOperationException($"slurm-one-node.sh ended with {code}: {reason}");
    }

    /// <summary>Runs a program of Slurm to its end.</summary>
    public Z1Result Run(string program, (string, string)[] environment, params string[] arguments)
    {
        using var process = Z1.StartProgram(program, [.. environment, Configuration], arguments);
        return process.Wait();
    }

    /// <summary>What is queued, and what the controller did, for the message of a failure.</summary>
    public string State() => Run("squeue", []).Output + File.ReadAllText(Path.Combine(_folder, "log", "slurmctld.log"));

    /// <summary>Waits until nothing is queued or running any more; what the daemons said when that takes too long.</summary>
    public void WaitForJobs(int seconds)
    {
        for (var watch = Stopwatch.StartNew(); Run("squeue", [], "--noheader").Output.Length > 0; Thread.Sleep(100))
        {
            if (watch.Elapsed.TotalSeconds > seconds)
            {
                throw new TimeoutException($"a job is still there after {seconds} s:\n{State()}");
            }
        }
    }

    public void Dispose()
    {
        _script.StandardInput.Close();
        if (!_script.WaitForExit(TimeSpan.FromSeconds(20)))
        {
            _script.Kill(entireProcessTree: true);
        }

        _script.Dispose();
        try
        {
            Directory.Delete(_folder, recursive: true);
        }
        catch (IOException)
        {
            // a step daemon is still writing its last line there
        }
    }
}
