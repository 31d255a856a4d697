using System.CommandLine;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Cli;

/// <summary>Which benchmarks, from which files, and which of their tasks.</summary>
internal static class EvalData
{
    /// <summary>The --benchmark option: names that there are, each once.</summary>
    public static Option<string[]> BenchmarkOption(string description)
    {
        var option = new Option<string[]>("--benchmark") { Description = description, AllowMultipleArgumentsPerToken = true };
        PlanCommand.Readable(option, name => Benchmark.Find(name));
        option.Validators.Add(result =>
        {
            if (result.Tokens.DistinctBy(t => t.Value, StringComparer.OrdinalIgnoreCase).Count() < result.Tokens.Count)
            {
                result.AddError("a benchmark stands twice in --benchmark");
            }
        });
        return option;
    }

    /// <summary>The benchmarks named; without a name every one of the published table whose files are there, and a line about those that
    /// are not.</summary>
    /// <param name="names">as given with --benchmark; none for --all</param>
    /// <param name="folder">of the files</param>
    /// <param name="from">first day of the problems asked; null for no limit</param>
    /// <param name="to">day before which they must be published; null for no limit</param>
    /// <param name="output">lines</param>
    /// <exception cref="InvalidInputException">A benchmark or a file is not there, or a file is wrong: file, line and field.</exception>
    public static List<(Benchmark Benchmark, IReadOnlyList<string> Files, IReadOnlyList<BenchmarkTask> Tasks)> Choose(
        string[] names, string folder, string? from, string? to, TextWriter output)
    {
        var window = new EvalWindow(from, to);
        var everything = names.Length == 0;
        var chosen = new List<(Benchmark, IReadOnlyList<string>, IReadOnlyList<BenchmarkTask>)>();
        foreach (var (benchmark, files, all, within) in window.Read(everything ? Table(folder, output) : EvalScoreCommand.Choose(names, folder, [])))
        {
            var tasks = everything && !window.IsGiven ? [.. all.Where(t => PublishedFigures.OutsideWindow(benchmark.Name, [t]) == 0)] : within;
            if (tasks.Count > 0)
            {
                chosen.Add((benchmark, files, tasks));
            }
            else if (everything)
            {
                output.WriteLine(
                    $"left out: {benchmark.Name}, no task of {Path.GetFileName(files[0])} is in the window of dates; "
                    + "--from and --to choose another");
            }
            else
            {
                throw new InvalidInputException(EvalWindow.Empty(benchmark, all));
            }
        }

        return chosen.Count > 0 ? chosen : throw new InvalidInputException($"{folder}: no task of a benchmark is in the window of dates.");
    }

    private static List<(Benchmark, IReadOnlyList<string>)> Table(string folder, TextWriter output)
    {
        var there = EvalScoreCommand.Choose([], folder, []).Where(c => PublishedFigures.Of(c.Benchmark.Name).Count > 0).ToList();
        var absent = Benchmark.All.Where(b => PublishedFigures.Of(b.Name).Count > 0 && there.TrueForAll(t => t.Benchmark != b)).ToList();
        if (there.Count == 0)
        {
            throw new InvalidInputException($"{folder} holds no file of the published table: {EvalScoreCommand.FileNames(absent)}.");
        }

        if (absent.Count > 0)
        {
            output.WriteLine($"not in {folder}, so not run: {EvalScoreCommand.FileNames(absent)}");
        }

        return there;
    }
}
