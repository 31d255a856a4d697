using System.CommandLine;
using Z1Coder.Runtime;
using System.CommandLine.Parsing;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Cli;

/// <summary>The command line: one file per verb. Exit codes: 0 done, 1 failed (one sentence on standard error), 2 bad usage.</summary>
public static class Cli
{
    private const string Trace = "Z1_TRACE";

    /// <summary>Parses and runs.</summary>
    public static int Run(string[] arguments)
    {
        if (RankEnvironment.LauncherProcess is { } launcher && !ChildProcess.EndWith(launcher))
        {
            return Fail("the z1 launch that started this rank has ended");
        }

        var root = new RootCommand(
            """
            z1 post-trains Qwen2-architecture code models on reasoning traces: curate, train, decode, evaluate, report.

            A first look (five minutes, no GPU):     z1 demo
            Train what a recipe describes:           z1 train recipes/nano/nano.yaml --out runs/nano
            Change any key of it:                    z1 train RECIPE --set stages.0.train.lr=1e-3
            Continue where it stopped:               z1 train RECIPE --out runs/nano --resume
            As two ranks on this machine:            z1 launch -n 2 -- train RECIPE --out runs/nano
            Ask the result:                          z1 generate --model runs/nano/stage2/model --chat "Write a function …"
            Measure it:                              z1 eval --model runs/nano/stage2/model --tasks tasks.jsonl
            """);
        foreach (var verb in Verbs())
        {
            root.Subcommands.Add(verb);
        }

        var parsed = root.Parse(arguments);
        if (parsed.Errors.Count > 0)
        {
            foreach (var error in parsed.Errors)
            {
                Console.Error.WriteLine($"z1: {OneLine(error.Message)}");
            }

            Console.Error.WriteLine($"z1: see 'z1 {Name(parsed.CommandResult)}--help'");
            return 2;
        }

        try
        {
            return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
        }
        catch (Exception e) when (Environment.GetEnvironmentVariable(Trace) is { Length: > 0 })
        {
            return Fail(e.ToString());
        }
        catch (Exception e)
        {
            return Fail(Sentence(e));
        }
    }

    /// <summary>What a user is told; an error that nobody foresaw says so and how to learn more.</summary>
    internal static string Sentence(Exception e) => e switch
    {
        AggregateException { InnerException: { } inner } => Sentence(inner),
        InvalidInputException or IOException or UnauthorizedAccessException or InsufficientMemoryException or SandboxException =>
            OneLine(e.Message),
        NotSupportedException or CudaException or KernelCompileException => OneLine(e.Message),    // no driver, no compiler, a failed kernel
        CollectiveException => OneLine(e.Message),            // another rank, or what a launcher says of ranks
        _ => $"unexpected {e.GetType().Name}: {OneLine(e.Message)}; {Trace}=1 shows where",
    };

    /// <summary>One sentence on standard error, exit code 1.</summary>
    public static int Fail(string sentence)
    {
        Console.Error.WriteLine($"z1: {sentence}");
        return 1;
    }

    private static string OneLine(string text) => string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));

    private static string Name(CommandResult result) =>
        result.Command is RootCommand ? "" : $"{(result.Parent is CommandResult parent ? Name(parent) : "")}{result.Command.Name} ";

    private static IEnumerable<Command> Verbs() =>
    [
        DemoCommand.Create(), CurateCommand.Create(), TrainCommand.Create(), LaunchCommand.Create(), GenerateCommand.Create(), ServeCommand.Create(),
        EvalCommand.Create(), ReportCommand.Create(), TokenizerCommand.Create(), PlanCommand.Create(), InspectCommand.Create(),
        DoctorCommand.Create(), PerfCommand.Create(), KernelsCommand.Create(), SelfTestCommand.Create(),
    ];
}
