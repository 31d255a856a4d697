using System.Globalization;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>One benchmark of two runs, from their files of results; answers and limits too where the runs keep them beside the results.</summary>
public sealed record BenchmarkComparison
{
    private const string PlainResults = "results.jsonl";

    /// <summary>Name of the benchmark; empty when the file's name does not tell.</summary>
    public required string Benchmark { get; init; }

    /// <summary>What the verdicts say.</summary>
    public required PairedComparison Comparison { get; init; }

    /// <summary>Answers of the first run by task.</summary>
    public required IReadOnlyDictionary<string, IReadOnlyList<AnswerRow>> AnswersA { get; init; }

    /// <summary>Answers of the second run by task.</summary>
    public required IReadOnlyDictionary<string, IReadOnlyList<AnswerRow>> AnswersB { get; init; }

    /// <summary>Compares what two runs have in common.</summary>
    /// <param name="a">A results file, or a directory of results files.</param>
    /// <param name="b">The other.</param>
    /// <param name="alone">Benchmarks that one run alone has, with the run's path.</param>
    /// <exception cref="InvalidInputException">One is no run, they have no benchmark in common, or they were graded by other tests or limits.</exception>
    public static IReadOnlyList<BenchmarkComparison> Read(string a, string b, out IReadOnlyList<(string Benchmark, string Run)> alone)
    {
        var (left, right) = (FilesOf(a), FilesOf(b));
        if (left.Count == 1 && right.Count == 1 && (left.ContainsKey("") || right.ContainsKey("")))
        {
            alone = [];
            var (x, y) = (left.Single(), right.Single());
            return [Of(x.Key + y.Key, x.Value, y.Value)];             // at least one of the names is empty
        }

        alone = [.. left.Keys.Except(right.Keys, StringComparer.Ordinal).Select(n => (n, a)), .. right.Keys.Except(left.Keys, StringComparer.Ordinal).Select(n => (n, b))];
        var common = left.Keys.Intersect(right.Keys, StringComparer.Ordinal).ToList();
        return common.Count > 0
            ? [.. common.Select(name => Of(name, left[name], right[name]))]
            : throw new InvalidInputException(
                $"{a} holds {Names(left)}, {b} holds {Names(right)}; they have no benchmark in common.");
    }

    private static string Names(SortedDictionary<string, string> files) => string.Join(", ", files.Keys.Select(n => n.Length > 0 ? n : PlainResults));

    private static SortedDictionary<string, string> FilesOf(string path)
    {
        var files = new SortedDictionary<string, string>(StringComparer.Ordinal);
        if (!Directory.Exists(path))
        {
            var name = Path.GetFileName(path);
            files.Add(name.EndsWith(EvaluationFiles.Results, StringComparison.Ordinal) ? name[..^EvaluationFiles.Results.Length] : "", path);
            return files;
        }

        foreach (var name in EvaluationFiles.BenchmarksIn(path))
        {
            files.Add(name, EvaluationFiles.PathOf(path, name, EvaluationFiles.Results));
        }

        if (files.Count == 0 && Path.Combine(path, PlainResults) is var plain && File.Exists(plain))
        {
            files.Add("", plain);
        }

        return files.Count > 0 ? files : throw new InvalidInputException(
            $"{path} is no run of z1 eval: it holds no results (NAME{EvaluationFiles.Results} or {PlainResults}).");
    }

    private static BenchmarkComparison Of(string name, string a, string b)
    {
        CheckLimits(a, b);
        var (answersA, answersB) = (AnswerRow.Read(Beside(a, EvaluationFiles.Answers)), AnswerRow.Read(Beside(b, EvaluationFiles.Answers)));
        var comparison = PairedComparison.Of(TaskVerdicts.Read(a), TaskVerdicts.Read(b));
        var changed = comparison.Paired.Select(t => t.TaskId).Where(id => TestsOf(answersA, id) is { } x && TestsOf(answersB, id) is { } y && x != y).ToList();
        return changed.Count == 0
            ? new BenchmarkComparison { Benchmark = name, Comparison = comparison, AnswersA = answersA, AnswersB = answersB }
            : throw new InvalidInputException(
                $"{a} and {b} were graded by different tests in {changed.Count} of {comparison.Tasks} tasks (the first is \"{changed[0]}\"); both must be of one version of the benchmark.");
    }

    private static string? TestsOf(IReadOnlyDictionary<string, IReadOnlyList<AnswerRow>> answers, string task) =>
        answers.TryGetValue(task, out var rows) ? rows[0].Tests : null;

    private static void CheckLimits(string a, string b)
    {
        var (left, right) = (Limits(a), Limits(b));
        foreach (var (key, value) in left)
        {
            if (right.TryGetValue(key, out var other) && other != value)
            {
                throw new InvalidInputException($"{a} and {b} were graded under different limits: {key} is {value} in the first and {other} in the second; grade both alike.");
            }
        }
    }

    private static Dictionary<string, string> Limits(string results) =>
        EvaluationFiles.ReadScore(Beside(results, EvaluationFiles.Score)) is { } score
        && score.TryGetProperty("limits", out var limits) && limits.ValueKind == JsonValueKind.Object
            ? limits.EnumerateObject().Where(p => p.Value.ValueKind == JsonValueKind.Number).GroupBy(p => p.Name, StringComparer.Ordinal)
                .ToDictionary(g => g.Key, g => g.Last().Value.GetDouble().ToString(CultureInfo.InvariantCulture), StringComparer.Ordinal)
            : [];

    private static string Beside(string results, string ending) =>
        results.EndsWith(EvaluationFiles.Results, StringComparison.Ordinal) ? results[..^EvaluationFiles.Results.Length] + ending
        : Path.Combine(Path.GetDirectoryName(results) ?? "", ending[1..]);
}
