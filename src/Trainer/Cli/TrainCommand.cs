using System.CommandLine;
using System.Security.Cryptography;
using System.Text;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 train RECIPE</summary>
internal static class TrainCommand
{
    private const int MostThreads = 4096, MostExitCode = 255, MostSeconds = 1_000_000;

    private const string RecipeName = "recipe", SetName = "--set", OutName = "--out", ResumeName = "--resume", StoppedName = "--stopped-exit-code";

    /// <summary>A rank that is busy when another has died learns of it at its next collective; it does not stay longer than this.</summary>
    private static readonly TimeSpan s_exitAfter = TimeSpan.FromSeconds(10);

    /// <summary>What these arguments, without the verb, would train and where; null when they are wrong, which the verb itself then says.</summary>
    public static (TrainRecipe Recipe, string Directory, bool Resume)? Directory(string[] arguments)
    {
        var parsed = Create().Parse(arguments);
        if (parsed.Errors.Count > 0)
        {
            return null;
        }

        var recipe = TrainRecipe.Load(parsed.GetValue<string>(RecipeName)!, parsed.GetValue<string[]>(SetName)!);
        return (recipe, Directory(parsed.GetValue<string?>(OutName), recipe), parsed.GetValue<bool>(ResumeName));
    }

    /// <summary>The exit code that these arguments, without the verb, give to a run that a signal ended; 0 where they are wrong.</summary>
    public static int StoppedExitCode(string[] arguments)
    {
        var parsed = Create().Parse(arguments);
        return parsed.Errors.Count > 0 ? 0 : parsed.GetValue<int>(StoppedName);
    }

    public static Command Create()
    {
        var recipe = new Argument<string>(RecipeName) { Description = "YAML, see recipes/" };
        var set = PlanCommand.SetOption();
        var output = new Option<string?>(OutName) { Description = "the run's directory; default runs/NAME" };
        var resume = new Option<bool>(ResumeName)
        {
            Description = "go on from the newest verified checkpoint, to the same bits as an uninterrupted run; a first start where there is none",
        };
        var device = Devices.Option();
        var threads = new Option<int>("--threads") { Description = "CPU threads of this rank; 0 takes the cores, shared between the ranks of this machine" };
        PlanCommand.Within(threads, 0, MostThreads);
        var backend = new Option<string>("--backend")
        {
            Description = "how ranks speak to each other: nccl (GPUs), mpi, tcp; auto takes nccl on GPUs, mpi under mpirun, else tcp",
            DefaultValueFactory = _ => "auto",
        };
        backend.AcceptOnlyFromAmong([.. RankWorld.Backends]);
        var timeout = new Option<double?>("--timeout")
        {
            Description = "seconds that a rank waits for the others in one operation; 0 waits forever; default parallel.timeout_seconds",
        };
        PlanCommand.Within(timeout, 0, MostSeconds);
        var stopped = new Option<int>(StoppedName)
        {
            Description = "exit code when a signal ended the run before its end, with everything saved; for a scheduler that takes 0 for complete",
        };
        PlanCommand.Within(stopped, 0, MostExitCode);
        var profile = new Option<string?>("--profile") { Description = "write a Chrome/Perfetto trace of steps 3 and 4 there (--device cuda)" };
        var command = new Command(
            "train",
            "Full-parameter SFT in stages. SIGTERM and Ctrl-C save and exit 0. One rank of several under torchrun, srun, mpirun, Kubernetes "
            + "or z1 launch.")
        {
            recipe, set, output, resume, device, threads, backend, timeout, stopped, profile,
        };
        Devices.Agree(command, device, backend);
        command.Validators.Add(result =>
        {
            if (result.GetValue(profile) is not null && result.GetValue(device) is null or "cpu")
            {
                result.AddError("--profile traces a CUDA stream; give --device cuda too");
            }
        });
        command.SetAction(parsed =>
        {
            var loaded = TrainRecipe.Load(parsed.GetValue(recipe)!, parsed.GetValue(set)!);
            var directory = Directory(parsed.GetValue(output), loaded);
            var environment = RankEnvironment.Detect();
            using var stream = Devices.Open(parsed.GetValue(device)!, environment, parsed.GetValue(threads));
            var options = new CollectiveOptions
            {
                Timeout = TimeSpan.FromSeconds(parsed.GetValue(timeout) ?? loaded.Stages[0].Parallel.TimeoutSeconds),
                ExitAfter = s_exitAfter,
            };
            var fingerprint = Fingerprint(loaded, directory, parsed.GetValue(resume));
            using var ranks = RankWorld.Open(environment, parsed.GetValue(backend)!, stream, fingerprint, options);
            return Run(loaded, directory, parsed.GetValue(resume), stream, ranks, parsed.GetValue(profile), parsed.GetValue(stopped));
        });
        return command;
    }

    private static string Directory(string? given, TrainRecipe recipe) => given ?? Path.Combine("runs", recipe.Name);

    private static int Run(TrainRecipe recipe, string directory, bool resume, ComputeStream stream, RankWorld ranks, string? profile, int stopped)
    {
        try
        {
            return TrainRun.Execute(recipe, directory, resume, stream, ranks, Console.Out, profile) ? 0 : stopped;
        }
        catch (InvalidInputException e) when (e.InnerException is BadStepException && !ranks.IsFirst)
        {
            return 1;                                      // every rank judged the step, rank 0 says so
        }
        catch (Exception e) when (e is not CollectiveException && e.InnerException is not BadStepException)
        {
            ranks.Collective.Abort(Cli.Sentence(e));       // the others end with the reason instead of a missing rank
            throw;
        }
    }

    /// <summary>What all ranks must have in common: this program, every key of the recipe, where the run lies and whether it goes on.</summary>
    private static string Fingerprint(TrainRecipe recipe, string directory, bool resume)
    {
        var hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(recipe.Resolved)));
        var version = typeof(TrainCommand).Assembly.GetName().Version;
        return $"z1 {version} train {recipe.Name} (SHA-256 {hash[..16]}) --out {directory}{(resume ? " --resume" : "")}";
    }
}
