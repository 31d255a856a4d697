using System.CommandLine;
using System.Text.Json;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Report;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 eval score: grades answers made elsewhere, or the benchmarks' own reference solutions.</summary>
internal static class EvalScoreCommand
{
    public static Command Create()
    {
        var benchmark = EvalData.BenchmarkOption("benchmarks (see z1 eval list)");
        var data = new Option<string?>("--data") { Description = "folder of benchmark files under their published names; without --benchmark every one found there" };
        var tasks = new Option<string[]>("--tasks")
        {
            Description = "the benchmark's file or files, for one --benchmark; a later file adds tasks (humaneval+: says more about those of the first)",
            AllowMultipleArgumentsPerToken = true,
        };
        var samples = new Option<string?>("--samples") { Description = "answers to grade, for one --benchmark: JSONL or JSON of evalplus, bigcodebench, CodeEval-Pro or LiveCodeBench" };
        var reference = new Option<bool>("--reference") { Description = "grade the reference solutions: each must pass; exit code 1 otherwise" };
        var output = new Option<string?>("--out") { Description = "directory for verdicts, answers, scores, report.html, and what is needed to go on after an interruption" };
        var html = new Option<string?>("--html") { Description = "the page of the evaluation; default report.html in --out" };
        var from = EvalWindow.Option("--from", "first day of the problems that count, where tasks have dates (livecodebench), such as 2024-08-01");
        var to = EvalWindow.Option("--to", "day before which they must be published");
        var k = new Option<int[]>("--k") { Description = "k of pass@k; several times for several", DefaultValueFactory = _ => [1, 5, 10] };
        var workers = new Option<int>("--workers") { Description = "programs at once; 0 takes one per core" };
        PlanCommand.Within(workers, 0, 1024);
        PlanCommand.Within(k, 1, 100_000);
        var missing = new Option<bool>("--allow-missing") { Description = "count only the tasks that have an answer" };
        var plain = new Option<bool>("--no-calibrate") { Description = "whole programs stand alone, without the prompt's imports (bigcodebench)" };
        var seconds = new Option<double?>("--floor-seconds") { Description = "least time limit instead of the benchmark's own" };
        PlanCommand.Within(seconds, 0.01, 1e6);
        var json = new Option<bool>("--json") { Description = "the scores as JSON" };
        var command = new Command("score", "Grades answers made elsewhere, confined; prints pass@k with its interval beside the published figures.")
        {
            benchmark, data, tasks, samples, reference, output, html, from, to, k, workers, missing, plain, seconds, json,
        };
        command.Validators.Add(result =>
        {
            var named = result.GetValue(benchmark)?.Length ?? 0;
            if ((result.GetValue(samples) is null) == !result.GetValue(reference))
            {
                result.AddError("give --samples FILE or --reference, one of the two");
            }

            if ((result.GetValue(data) is null) == ((result.GetValue(tasks)?.Length ?? 0) == 0))
            {
                result.AddError("give --data DIR or --tasks FILE, one of the two");
            }

            if (named != 1 && (result.GetValue(samples) is not null || result.GetValue(data) is null))
            {
                result.AddError("--samples and --tasks go with one --benchmark NAME");
            }
        });
        command.SetAction(async (parsed, _) =>
        {
            using var signal = new StopSignal();
            var window = new EvalWindow(parsed.GetValue(from), parsed.GetValue(to));
            var chosen = window.Read(Choose(parsed.GetValue(benchmark) ?? [], parsed.GetValue(data), parsed.GetValue(tasks) ?? []));
            if (chosen.Find(c => c.Tasks.Count == 0) is { Benchmark: { } empty } nothing)
            {
                throw new InvalidInputException(EvalWindow.Empty(empty, nothing.All));
            }

            var folder = parsed.GetValue(output) ?? Directory.CreateTempSubdirectory("z1-eval-").FullName;
            if (chosen.Select(c => EvaluationFiles.PathOf(folder, c.Benchmark.Name, EvaluationFiles.Answers)).FirstOrDefault(EvaluationFiles.IsOfModel) is { } made)
            {
                throw new InvalidInputException($"{made} holds the answers that z1 eval made, and would be written over; name another --out.");
            }

            try
            {
                Directory.CreateDirectory(folder);
                using var sandbox = Sandbox.Create(sitePackages: true, reuse: true);
                var scores = new List<BenchmarkScore>();
                var view = new EvalScoreView(Console.Out);
                foreach (var (which, _, all, used) in chosen)
                {
                    var read = parsed.GetValue(samples) is { } path ? SampleFile.Read(path, which, all, !parsed.GetValue(plain)) : null;
                    string Of(string ending) => EvaluationFiles.PathOf(folder, which.Name, ending);
                    var options = new EvaluationOptions
                    {
                        Sandbox = sandbox,
                        Limits = which.Limits,
                        FloorSeconds = parsed.GetValue(seconds) ?? which.FloorSeconds,
                        ReferenceFactor = which.ReferenceFactor,
                        ReferenceSeconds = Math.Max(60, which.FloorSeconds),
                        Reference = read is null ? ReferenceCheck.Skip : ReferenceCheck.Exclude,
                        AllowMissing = parsed.GetValue(missing),
                        CheckPackages = true,
                        Workers = parsed.GetValue(workers),
                        K = parsed.GetValue(k)!,
                        JournalPath = Of(EvaluationFiles.Journal),
                        ResultsPath = Of(EvaluationFiles.Results),
                        DetailsPath = Of(EvaluationFiles.Details),
                    };
                    if (!parsed.GetValue(json))
                    {
                        view.Starting(which, used.Count);
                    }

                    var score = await BenchmarkScore.OfAsync(which, used, read, options, signal.Token);
                    scores.Add(score);
                    if (parsed.GetValue(output) is not null || parsed.GetValue(html) is not null)
                    {
                        EvaluationFiles.WriteAnswers(Of(EvaluationFiles.Answers), used, read ?? References(used));
                        EvaluationFiles.WriteScore(Of(EvaluationFiles.Score), score);
                    }

                    if (!parsed.GetValue(json))
                    {
                        view.Ended(score);
                    }
                }

                var own = parsed.GetValue(output) is null ? null : Path.Combine(folder, EvaluationFiles.Report);
                if ((parsed.GetValue(html) ?? own) is { } page)
                {
                    File.WriteAllText(page, EvaluationReport.Render(folder));
                }

                view.Finish();
                if (parsed.GetValue(json))
                {
                    CliJson.Write(writer => Write(writer, scores));
                }

                return scores.TrueForAll(s => s.Holds) ? 0 : 1;
            }
            catch (OperationCanceledException) when (signal.Token.IsCancellationRequested)
            {
                if (parsed.GetValue(output) is null)
                {
                    return Cli.Fail($"stopped by {signal.Name}; nothing is kept without --out DIR");
                }

                (parsed.GetValue(json) ? TextWriter.Null : Console.Out).WriteLine(
                    $"eval score: stopped by {signal.Name}; finished verdicts are kept, the same command goes on from there");
                return 0;
            }
            finally
            {
                if (parsed.GetValue(output) is null)
                {
                    Directory.Delete(folder, recursive: true);
                }
            }
        });
        return command;
    }

    /// <summary>The benchmarks named, or every one of which a folder holds the files.</summary>
    internal static List<(Benchmark Benchmark, IReadOnlyList<string> Files)> Choose(string[] names, string? data, string[] files)
    {
        var named = names.Select(Benchmark.Find).ToList();
        if (data is null)
        {
            return [(named[0], files)];
        }

        var folder = new DirectoryInfo(data);
        if (!folder.Exists)
        {
            throw new InvalidInputException($"{data} is not a folder; it must hold the benchmarks' files.");
        }

        var found = (named.Count > 0 ? named : Benchmark.All).Select(b => (Benchmark: b, Files: b.Find(folder))).ToList();
        if (named.Count > 0 && found.Where(f => f.Files is null).Select(f => f.Benchmark).ToList() is { Count: > 0 } absent)
        {
            throw new InvalidInputException($"{data} holds no file of {FileNames(absent)}.");
        }

        var there = found.Where(f => f.Files is not null).Select(f => (f.Benchmark, f.Files!)).ToList();
        return there.Count > 0 ? there : throw new InvalidInputException($"{data} holds no file of a benchmark under a published name.");
    }

    /// <summary>Benchmarks, each with the names under which its files are looked for.</summary>
    internal static string FileNames(IEnumerable<Benchmark> benchmarks) => string.Join(", ", benchmarks.Select(b => $"{b.Name} ({b.FileNames})"));

    private static List<Sample> References(IReadOnlyList<BenchmarkTask> tasks) =>
        [.. tasks.Where(t => t.Reference is not null).Select(t => new Sample(t.TaskId, t.Reference!, CompletionMode.Program))];

    /// <summary>Writes the property `benchmarks`.</summary>
    internal static void Write(Utf8JsonWriter json, List<BenchmarkScore> scores)
    {
        json.WriteStartArray("benchmarks");
        foreach (var score in scores)
        {
            score.Write(json);
        }

        json.WriteEndArray();
    }
}
