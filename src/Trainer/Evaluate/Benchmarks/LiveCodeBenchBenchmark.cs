using System.Globalization;
using System.Text;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>
/// LiveCodeBench (Jain et al. 2024, arXiv:2403.07974): contest problems by date, as scripts that read standard input (AtCoder, Codeforces) or as a method
/// of class Solution (LeetCode); public and private tests, one file of problems per release. Scripts are compared by <see cref="PrintedOutput"/>. Methods are called on the JSON values of
/// the input's lines, one instance for all tests, and a tuple counts as a list. Each test may take 6 seconds. Before the code stand the imports of
/// the official checker. Problems are grouped easy, medium, hard; a run is stated for a window of dates, because models have seen older ones.
/// </summary>
public sealed class LiveCodeBenchBenchmark : Benchmark
{
    private const double GlobalSlack = 5;
    private const int Releases = 6;

    // Each release adds a file of new problems.
    private static readonly string[] s_releases = [.. Enumerable.Range(1, Releases).Select(i => i == 1 ? "test.jsonl" : $"test{i}.jsonl")];

    private static readonly string[] s_modules =
    [
        "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools", "functools", "operator", "io", "sys",
        "json", "builtins", "typing",
    ];

    private static readonly string s_imports =
        string.Concat(s_modules.Select(m => $"from {m} import *\n"))
        + string.Concat(s_modules.Where(m => m is not ("builtins" or "typing")).Select(m => $"import {m}\n")) + "sys.setrecursionlimit(50000)\n";

    /// <inheritdoc/>
    public override string Name => "livecodebench";

    /// <inheritdoc/>
    public override string Description => "contest problems by date, scripts and methods, easy to hard; 400 tasks (v1) to 1055 (v6)";

    /// <inheritdoc/>
    public override string Source => "Jain et al. 2024, arXiv:2403.07974; LiveCodeBench";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files { get; } =
        [["livecodebench_problems.jsonl"], .. Enumerable.Range(0, Releases).Select(i => s_releases[..^i])];

    /// <inheritdoc/>
    public override string FileNames => $"livecodebench_problems.jsonl or as many of {string.Join(", ", s_releases)} as there are";

    /// <inheritdoc/>
    public override IReadOnlyList<string>? Find(DirectoryInfo folder)
    {
        var found = base.Find(folder);
        return found is null || Path.GetFileName(found[0]) != s_releases[0] || !Array.Exists(s_releases[found.Count..], f => File.Exists(Path.Combine(folder.FullName, f)))
            ? found
            : throw new InvalidInputException(
                $"{folder}: {s_releases[found.Count]} is missing, though a later release's file is there; put it there, or name the files you mean with z1 eval score --tasks.");
    }

    /// <inheritdoc/>
    public override IReadOnlyList<string> Stops { get; } = ["###"];

    /// <inheritdoc/>
    public override int MaxNewTokens => 4096;

    /// <inheritdoc/>
    public override int Samples => 10;

    /// <inheritdoc/>
    public override double Temperature => 0.2;

    /// <inheritdoc/>
    public override double TopP => 0.95;

    /// <inheritdoc/>
    public override SandboxLimits Limits { get; } = new() { MemoryBytes = 4L << 30, OutputKeptBytes = 32 << 20, OutputBytes = 32 << 20 };

    /// <inheritdoc/>
    public override double FloorSeconds => 6;

    /// <inheritdoc/>
    public override string IdField => "question_id";

    /// <inheritdoc/>
    public override double Seconds(BenchmarkTask task, double reference, EvaluationOptions options) =>
        task.Cases.Count > 0 ? options.FloorSeconds : (options.FloorSeconds + 1) * task.Inputs + GlobalSlack;

    private protected override BenchmarkTask TaskOf(BenchmarkRow row)
    {
        var starter = row.TextOrNull("starter_code") ?? "";
        var tests = new LiveCodeBenchTests(row);
        var method = Method(row);
        if (tests.IsMixed || tests.IsFunctional != method is not null)
        {
            throw row.Error("public_test_cases", "mixes kinds of tests, or names a method where none is called");
        }

        var date = row.TextOrNull("contest_date");
        if (date is not null && !DateTime.TryParse(date, CultureInfo.InvariantCulture, DateTimeStyles.None, out _))
        {
            throw row.Error("contest_date", $"is \"{date}\"; it must be a date such as 2024-08-01");
        }

        var format = starter.Length > 0
            ? $"You will use the following starter code to write the solution to the problem and enclose your code within delimiters.\n```python\n{starter}\n```\n\n"
            : "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample inputs). Enclose your code within "
                + "delimiters as follows. Ensure that when the python program runs, it reads the inputs, runs the algorithm and writes output to STDOUT.\n"
                + "```python\n# YOUR CODE HERE\n```\n\n";
        var task = new BenchmarkTask
        {
            TaskId = row.Id("question_id"),
            Prompt = $"### Question:\n{row.Text("question_content")}\n\n### Format: {format}### Answer: (use the provided format with backticks)\n\n",
            EntryPoint = method ?? "",
            Kind = row.TextOrNull("difficulty"),
            Date = date is null ? null : DateOnly.FromDateTime(DateTime.Parse(date, CultureInfo.InvariantCulture)),
            Setup = s_imports,
            Inputs = tests.Count,
        };
        task = tests.IsFunctional
            ? task with { TestCode = Code(method!), MakeTests = () => Calls(method!, tests) }
            : task with { Cases = tests };
        return task with { Hash = EvaluationFiles.HashOf(task) };
    }

    // The official rule, which knows no language marks and no unfinished blocks: what stands between the last two lines that hold a fence.
    /// <inheritdoc/>
    public override Sample Extract(BenchmarkTask task, string answer)
    {
        var lines = answer.Split('\n');
        var end = Array.FindLastIndex(lines, HoldsFence);
        var start = end < 1 ? -1 : Array.FindLastIndex(lines, end - 1, HoldsFence);
        return new Sample(task.TaskId, start < 0 ? "" : string.Join('\n', lines[(start + 1)..end]), CompletionMode.Program);

        static bool HoldsFence(string line) => line.Contains("```", StringComparison.Ordinal);
    }

    private static string? Method(BenchmarkRow row)
    {
        if (row.TextOrNull("func_name") is { } given)
        {
            return given;
        }

        var metadata = row.Find("metadata");
        if (metadata is { ValueKind: JsonValueKind.String } text)
        {
            metadata = Parse(row, "metadata", row.String("metadata", text));
        }

        return metadata is { ValueKind: JsonValueKind.Object } fields && fields.TryGetProperty("func_name", out var name) && name.ValueKind == JsonValueKind.String
            ? row.String("metadata", name)
            : null;
    }

    private static JsonElement Parse(BenchmarkRow row, string field, string text)
    {
        try
        {
            using var document = JsonDocument.Parse(text);
            return document.RootElement.Clone();
        }
        catch (JsonException e)
        {
            throw row.Error(field, $"holds text that is not JSON ({e.Message.TrimEnd('.')})");
        }
    }

    private static string Code(string method) =>
        method.All(c => char.IsAsciiLetterOrDigit(c) || c == '_')
            ? Check.Replace("$METHOD", method, StringComparison.Ordinal)
            : throw new InvalidInputException($"\"{method}\" is not the name of a method.");

    private static string Calls(string method, LiveCodeBenchTests tests)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartArray();
            foreach (var (input, output) in tests)
            {
                json.WriteStartArray();
                json.WriteStringValue(input);
                json.WriteStringValue(output);
                json.WriteEndArray();
            }

            json.WriteEndArray();
        }

        return Code(method).Replace("$TESTS", Convert.ToBase64String(buffer.GetBuffer().AsSpan(0, (int)buffer.Length)), StringComparison.Ordinal);
    }

    private const string Check = """
        class Z1TimeOut(BaseException):
            pass
        def z1_check():
            import base64, json, signal
            expired = []
            def late(*_):
                expired.append(True)
                raise Z1TimeOut
            signal.signal(signal.SIGALRM, late)
            method = getattr(Solution() if "Solution" in globals() else __import__("sys").modules[__name__], "$METHOD")
            for at, (given, wanted) in enumerate(json.loads(base64.b64decode("$TESTS"))):
                arguments, wanted = [json.loads(line) for line in given.split("\n")], json.loads(wanted)
                signal.setitimer(signal.ITIMER_REAL, z1_floor)
                try:
                    out = method(*arguments)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    if expired:
                        raise Z1TimeOut             # whatever the method made of it: late is not wrong
                assert (list(out) if isinstance(out, tuple) else out) == wanted, f"test {at}: wrong"
        z1_check()
        """;
}
