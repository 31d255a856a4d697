using System.CommandLine;
using System.CommandLine.Parsing;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
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

        if (Misuse(arguments, out var parsed) is { } wrong)
        {
            return Misused(parsed, wrong);
        }

        try
        {
            return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
        }
        catch (UsageException e)
        {
            return Misused(parsed, [e.Message]);
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

    /// <summary>What is wrong with a command line before anything runs, a sentence each; null when nothing is.</summary>
    internal static string[]? Misuse(string[] arguments) => Misuse(arguments, out _);

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

    private static RootCommand Root()
    {
        var root = new RootCommand(
            """
            z1 post-trains Qwen2-architecture code models on reasoning traces: curate, train, decode, evaluate, report.

            A first look (ten minutes, no GPU):      z1 demo
            Ask its model:                           z1 generate --model runs/demo/stage2/model --chat "Write a function …"
            Its lessons, without training:           z1 curate nano --out runs/nano-data
            Train what a recipe describes:           z1 train RECIPE --out runs/mine
            Change any key of it:                    z1 train RECIPE --out runs/mine --set stages.0.train.lr=1e-3
            Continue where it stopped:               z1 train RECIPE --out runs/mine --resume
            As two ranks on this machine:            z1 launch -n 2 -- train RECIPE --out runs/mine
            Measure a model:                         z1 eval --model DIRECTORY --tasks tasks.jsonl
            """);
        foreach (var verb in Verbs())
        {
            root.Subcommands.Add(verb);
        }

        RefuseCommas(root);
        return root;
    }

    /// <summary>A comma is the parser's separator of thousands: 0,8 would be 8.</summary>
    private static void RefuseCommas(Command command)
    {
        foreach (var option in command.Options.Where(o => o.ValueType == typeof(double) || o.ValueType == typeof(double?)))
        {
            option.Validators.Add(result =>
            {
                if (result.Tokens.FirstOrDefault(t => t.Value.Contains(',', StringComparison.Ordinal)) is { } token)
                {
                    result.AddError($"{option.Name} {token.Value}: decimals stand after a point");
                }
            });
        }

        foreach (var sub in command.Subcommands)
        {
            RefuseCommas(sub);
        }
    }

    private static string[]? Misuse(string[] arguments, out ParseResult parsed)
    {
        try
        {
            parsed = Root().Parse(arguments);
            return MistypedOption(parsed) is { } sentence ? [sentence] : parsed.Errors.Count > 0 ? [.. parsed.Errors.Select(e => OneLine(e.Message))] : null;
        }
        catch (InvalidOperationException e)             // from a validator that reads an option which was given without its value
        {
            parsed = Root().Parse([.. arguments.TakeWhile(a => !a.StartsWith('-'))]);
            return [OneLine(e.Message)];
        }
    }

    /// <summary>The parser takes an option it does not know for a word of whatever may have one more: a prompt, a file, a list.</summary>
    private static string? MistypedOption(ParseResult parsed)
    {
        var word = parsed.Tokens.TakeWhile(t => t.Type != TokenType.DoubleDash)
            .FirstOrDefault(t => t.Type == TokenType.Argument && t.Value.StartsWith("--", StringComparison.Ordinal))?.Value;
        if (word is null)
        {
            return null;
        }

        var options = parsed.CommandResult.Command.Options.Where(o => !o.Hidden).Select(o => o.Name);
        return $"'{Name(parsed.CommandResult)}' has no option {Quoted.Name(word)}{NearestNames.Phrase(word, options)}; a word that begins so stands after --";
    }

    private static int Misused(ParseResult parsed, string[] sentences)
    {
        foreach (var sentence in sentences)
        {
            Console.Error.WriteLine($"z1: {sentence}");
        }

        Console.Error.WriteLine($"z1: see '{Name(parsed.CommandResult)} --help'");
        return 2;
    }

    private static string OneLine(string text) => string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));

    private static string Name(CommandResult result) => result.Parent is CommandResult parent ? $"{Name(parent)} {result.Command.Name}" : "z1";

    private static IEnumerable<Command> Verbs() =>
    [
        DemoCommand.Create(), CurateCommand.Create(), TrainCommand.Create(), LaunchCommand.Create(), GenerateCommand.Create(), ServeCommand.Create(),
        EvalCommand.Create(), ReportCommand.Create(), TokenizerCommand.Create(), PlanCommand.Create(), InspectCommand.Create(),
        DoctorCommand.Create(), PerfCommand.Create(), KernelsCommand.Create(), SelfTestCommand.Create(),
    ];
}
