using System.CommandLine;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Evaluate.Benchmarks;
using Z1Coder.Trainer.Report;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 eval --model DIR (--benchmark NAME… | --all) --data DIR, z1 eval --tasks FILE (--model DIR | --completions FILE), and the
/// verbs below it.</summary>
internal static class EvalCommand
{
    public static Command Create()
    {
        var benchmark = EvalData.BenchmarkOption("benchmarks to answer (see z1 eval list)");
        var all = new Option<bool>("--all") { Description = "every benchmark of the published table whose files are in --data" };
        var data = new Option<string?>("--data") { Description = "folder of benchmark files under their published names" };
        var from = EvalWindow.Option(
            "--from", "first day of the problems asked, where tasks have dates (livecodebench), such as 2024-08-01; --all asks those of the published window");
        var to = EvalWindow.Option("--to", "day before which they must be published");
        var tasks = new Option<string?>("--tasks")
        {
            Description = "tasks of your own instead: JSONL with task_id, prompt, entry_point, test",
        };
        var completions = new Option<string?>("--completions")
        {
            Description = "with --tasks, grade these instead of a model: JSONL with task_id and completion or solution",
        };
        var output = new Option<string?>("--out")
        {
            Description = "directory for answers, verdicts, scores, report.html, and what is needed to go on after an interruption",
        };
        var json = new Option<bool>("--json") { Description = "the scores as JSON, and no progress" };
        var model = new EvalModel();
        var command = new Command(
            "eval",
            """
            pass@1 of a model by running its programs, confined, while it still answers; reference solutions are checked first.

            The published table:          z1 eval --model DIR --all --data benchmarks --out runs/eval
            Some of it:                   z1 eval --model DIR --benchmark humaneval+ mbpp+ --data benchmarks --out runs/eval
            Tasks of your own:            z1 eval --model DIR --tasks tasks.jsonl
            Every answer is on disk at once: after a kill the same command goes on, and comes to the same bytes. See docs/eval.md.
            """)
        {
            benchmark, all, data, from, to, tasks, completions, output, json,
        };
        model.AddTo(command);
        command.Subcommands.Add(EvalScoreCommand.Create());
        command.Subcommands.Add(EvalCompareCommand.Create());
        command.Subcommands.Add(EvalListCommand.Create());
        command.Subcommands.Add(EvalSandboxCommand.Create());
        command.Validators.Add(result =>
        {
            var names = result.GetValue(benchmark) ?? [];
            var ways = (names.Length > 0 ? 1 : 0) + (result.GetValue(all) ? 1 : 0) + (result.GetValue(tasks) is null ? 0 : 1);
            if (ways != 1)
            {
                result.AddError("give --benchmark NAME, --all or --tasks FILE, one of the three");
            }
            else if (result.GetValue(tasks) is null)
            {
                if (result.GetResult("--model") is null || result.GetValue(data) is null || result.GetValue(completions) is not null)
                {
                    result.AddError("--benchmark and --all need --model DIR and --data DIR; answers made elsewhere are for z1 eval score");
                }
            }
            else if ((result.GetResult("--model") is null) == (result.GetValue(completions) is null))
            {
                result.AddError("give --model DIR or --completions FILE, one of the two");
            }
        });
        command.SetAction(async (parsed, _) =>
        {
            using var signal = new StopSignal();
            var asJson = parsed.GetValue(json);
            var given = parsed.GetValue(output);
            var folder = given ?? Directory.CreateTempSubdirectory("z1-eval-").FullName;
            try
            {
                Directory.CreateDirectory(folder);
                if (parsed.GetValue(completions) is { } file)
                {
                    try
                    {
                        return await ScoreAsync(parsed.GetValue(tasks)!, file, folder, asJson, signal.Token);
                    }
                    catch (OperationCanceledException) when (signal.Token.IsCancellationRequested)
                    {
                        return Cli.Fail($"stopped by {signal.Name}; no verdict is kept");
                    }
                }

                var lines = asJson ? TextWriter.Null : Console.Out;
                var own = parsed.GetValue(tasks);
                var names = parsed.GetValue(benchmark) ?? [];
                var chosen = own is not null ? OwnTasks(own)
                    : EvalData.Choose(names, parsed.GetValue(data)!, parsed.GetValue(from), parsed.GetValue(to), lines);
                using var sandbox = own is not null ? Sandbox.Create() : Sandbox.Create(sitePackages: true, reuse: true);
                var view = new EvalScoreView(lines);
                var scores = await model.RunAsync(
                    parsed, chosen, folder, keep: given is not null,
                    b => own is not null ? OfOwnTasks(sandbox) : OfBenchmark(b, sandbox), lines, own is null ? view.Ended : _ => { }, signal);
                if (scores is null)
                {
                    return given is null ? Cli.Fail($"stopped by {signal.Name}; nothing is kept without --out DIR") : 0;
                }

                if (given is not null)
                {
                    File.WriteAllText(Path.Combine(folder, EvaluationFiles.Report), EvaluationReport.Render(folder));
                }

                if (own is not null)
                {
                    Print(scores[0].Summary, asJson);
                    return 0;
                }

                view.Finish();
                if (asJson)
                {
                    CliJson.Write(writer => EvalScoreCommand.Write(writer, scores));
                }

                return 0;
            }
            finally
            {
                if (given is null)
                {
                    Directory.Delete(folder, recursive: true);
                }
            }
        });
        return command;
    }

    private static List<(Benchmark, IReadOnlyList<string>, IReadOnlyList<BenchmarkTask>)> OwnTasks(string file)
    {
        var benchmark = new TaskFileBenchmark();
        return [(benchmark, [file], benchmark.Read([file]))];
    }

    private static EvaluationOptions OfOwnTasks(Sandbox sandbox) => new() { Sandbox = sandbox };

    private static EvaluationOptions OfBenchmark(Benchmark benchmark, Sandbox sandbox) => new()
    {
        Sandbox = sandbox, Limits = benchmark.Limits, ReferenceFactor = benchmark.ReferenceFactor,
        ReferenceSeconds = Math.Max(60, benchmark.FloorSeconds), Reference = ReferenceCheck.Exclude, CheckPackages = true, K = [1, 5, 10],
    };

    private static async Task<int> ScoreAsync(string tasks, string completions, string folder, bool asJson, CancellationToken stop)
    {
        var benchmark = new TaskFileBenchmark();
        var options = new EvaluationOptions { ResultsPath = EvaluationFiles.PathOf(folder, benchmark.Name, EvaluationFiles.Results) };
        var known = benchmark.Read([tasks]);
        var samples = SampleFile.Read(completions, benchmark, known, calibrated: false);
        Print(await Grader.EvaluateAsync(benchmark, known, samples, options, stop), asJson);
        return 0;
    }

    private static void Print(EvaluationSummary summary, bool asJson)
    {
        if (!asJson)
        {
            foreach (var kind in summary.Kinds)
            {
                Line(kind.Kind, kind.PassAt1, kind.Interval, kind.Tasks);
            }

            Line("all", summary.PassAt1, summary.Interval, summary.Tasks.Count);
            Console.WriteLine(string.Join(", ", summary.Outcomes.Where(o => o.Value > 0).Select(o => $"{o.Key} {o.Value}")));
            Console.WriteLine($"time-outs run again alone: {summary.RunAgainAlone}, verdicts changed by it: {summary.ChangedVerdicts}");
            return;
        }

        CliJson.Write(json =>
        {
            json.WriteNumber("pass_at_1", summary.PassAt1);
            json.WriteNumber("low", summary.Interval.Low);
            json.WriteNumber("high", summary.Interval.High);
            json.WriteNumber("tasks", summary.Tasks.Count);
            json.WriteNumber("run_again_alone", summary.RunAgainAlone);
            json.WriteNumber("changed_verdicts", summary.ChangedVerdicts);
            summary.WriteGroups(json);
        });

        static void Line(string name, double passAt1, Interval interval, int tasks) =>
            Console.WriteLine($"{name,-16} pass@1 {passAt1,7:P1}  [{interval.Low:P1}, {interval.High:P1}]  {tasks} tasks");
    }
}
