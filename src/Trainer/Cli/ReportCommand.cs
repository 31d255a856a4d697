using System.CommandLine;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Report;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 report RUN</summary>
internal static class ReportCommand
{
    public static Command Create()
    {
        var run = new Argument<string>("run") { Description = "directory of a run (z1 train --out) or of an evaluation (z1 eval --out, z1 eval score --out)" };
        var output = new Option<string?>("--out") { Description = "the page to write; default RUN/report.html" };
        var command = new Command("report", "One HTML page of a run (curves, figures, worked samples, recipe, environment) or of an evaluation. Opens with no network.")
        {
            run, output,
        };
        command.SetAction(parsed =>
        {
            var directory = parsed.GetValue(run)!;
            var path = parsed.GetValue(output) ?? Path.Combine(directory, "report.html");
            var evaluation = Directory.Exists(directory) && EvaluationFiles.BenchmarksIn(directory).Count > 0;
            File.WriteAllText(path, evaluation ? EvaluationReport.Render(directory) : HtmlReport.Render(directory));
            Console.WriteLine(path);
            return 0;
        });
        return command;
    }
}
