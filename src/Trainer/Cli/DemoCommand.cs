using System.CommandLine;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Report;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 demo</summary>
internal static class DemoCommand
{
    public static Command Create()
    {
        var recipe = new Option<string?>("--recipe") { Description = $"the recipe; default {DemoRun.OwnRecipe}, the built-in copy where there is no such file" };
        var set = PlanCommand.SetOption();
        var seed = new Option<long?>("--seed") { Description = "other problems, weights and orders: --set seed=N in short" };
        var output = new Option<string>("--out") { Description = "the run's directory; an earlier demo there is kept as DIR.1, DIR.2, …", DefaultValueFactory = _ => "runs/demo" };
        var vocabulary = new Option<int>("--vocabulary") { Description = "tokens the tokenizer learns at most", DefaultValueFactory = _ => 1024 };
        PlanCommand.Within(vocabulary, TokenizerCommand.LeastVocabulary, TokenizerCommand.MostVocabulary);
        var device = Devices.Option();
        var command = new Command("demo", "The whole recipe in small: a model learns in two stages and then solves problems it had failed.")
        {
            recipe, set, seed, output, vocabulary, device,
        };
        command.SetAction(parsed =>
        {
            var directory = parsed.GetValue(output)!;
            string[] overrides = parsed.GetValue(seed) is { } number ? [.. parsed.GetValue(set)!, $"seed={number}"] : parsed.GetValue(set)!;
            using var stream = Devices.Open(parsed.GetValue(device)!);
            if (!DemoRun.Execute(parsed.GetValue(recipe), overrides, directory, parsed.GetValue(vocabulary), stream, Console.Out))
            {
                throw new InvalidInputException($"stopped before the end; {directory} holds what was done");
            }

            var report = Path.Combine(directory, "report.html");
            File.WriteAllText(report, HtmlReport.Render(directory));
            Console.WriteLine($"report: {report}");
            return 0;
        });
        return command;
    }
}
