using System.Text.Json;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Data.Journal;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// Files of one graded benchmark in the directory of an evaluation, each called by the benchmark and one of these endings: written by the
/// verbs of z1 eval, read by the comparison and the reports. One place, so that they cannot drift.
/// </summary>
public static class EvaluationFiles
{
    /// <summary>Verdicts, one line per sample.</summary>
    public const string Results = ".results.jsonl";

    /// <summary>Times and error texts, one line per run of a program.</summary>
    public const string Details = ".details.jsonl";

    /// <summary>Finished outcomes, to go on after an interruption.</summary>
    public const string Journal = ".journal.jsonl";

    /// <summary>
    /// What was asked and answered, one line per sample: task_id, sample, kind, tests (a hash of what grades the task), prompt, completion.
    /// </summary>
    public const string Answers = ".answers.jsonl";

    /// <summary>The score, as z1 eval score --json prints it.</summary>
    public const string Score = ".score.json";

    /// <summary>After <see cref="Details"/>: of the answers cut after the solution, where a benchmark is scored with them too.</summary>
    public const string Cut = ".cut";

    /// <summary>The code of each answer, one line per sample, as z1 eval score and other graders read it.</summary>
    public const string Samples = ".samples.jsonl";

    /// <summary>What an evaluation took, and what was run again: figures that differ from run to run.</summary>
    public const string Times = ".times.json";

    /// <summary>The page of the whole evaluation.</summary>
    public const string Report = "report.html";

    private const int HashDigits = 16;

    /// <summary>The file of a benchmark with this ending.</summary>
    public static string PathOf(string folder, string benchmark, string ending) => Path.Combine(folder, benchmark + ending);

    /// <summary>The benchmarks of which a directory holds verdicts, by name.</summary>
    public static IReadOnlyList<string> BenchmarksIn(string folder) =>
        [.. new DirectoryInfo(folder).EnumerateFiles("*" + Results).Select(f => f.Name[..^Results.Length]).Order(StringComparer.Ordinal)];

    /// <summary>True for a file of answers that z1 eval made and goes on with: they were paid for, and are not written over.</summary>
    public static bool IsOfModel(string path)
    {
        if (!File.Exists(path))
        {
            return false;
        }

        var start = new byte[JournalFile.LineStart.Length];
        using var file = File.OpenRead(path);
        return file.ReadAtLeast(start, start.Length, throwOnEndOfStream: false) == start.Length && JournalFile.LineStart.SequenceEqual(start);
    }

    /// <summary>Writes prompts and answers, in the order given; samples of tasks not among <paramref name="tasks"/> are left out.</summary>
    public static void WriteAnswers(string path, IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<Sample> samples)
    {
        var byId = tasks.ToDictionary(t => t.TaskId, StringComparer.Ordinal);
        var hashes = tasks.ToDictionary(t => t.TaskId, HashOf, StringComparer.Ordinal);
        var seen = new Dictionary<string, int>(StringComparer.Ordinal);
        using (var file = new StreamWriter(path + ".partial") { NewLine = "\n" })
        {
            foreach (var sample in samples.Where(s => byId.ContainsKey(s.TaskId)))
            {
                var ordinal = seen[sample.TaskId] = seen.TryGetValue(sample.TaskId, out var last) ? last + 1 : 0;
                var task = byId[sample.TaskId];
                file.WriteLine(JsonLine.Of(json =>
                {
                    json.WriteString("task_id", task.TaskId);
                    json.WriteNumber("sample", ordinal);
                    json.WriteString("kind", task.Kind);
                    json.WriteString("tests", hashes[task.TaskId]);
                    json.WriteString("prompt", task.Prompt);
                    json.WriteString("completion", sample.Code);
                }));
            }
        }

        File.Move(path + ".partial", path, overwrite: true);
    }

    /// <summary>Writes a score.</summary>
    /// <param name="path">The file.</param>
    /// <param name="score">The score.</param>
    /// <param name="withRun">With the figures that differ from run to run.</param>
    public static void WriteScore(string path, BenchmarkScore score, bool withRun = true) => WriteJson(path, json => score.Write(json, withRun));

    /// <summary>Writes one indented JSON value, whole or not at all.</summary>
    public static void WriteJson(string path, Action<Utf8JsonWriter> value)
    {
        using (var file = File.Create(path + ".partial"))
        {
            using (var json = new Utf8JsonWriter(file, new JsonWriterOptions { Indented = true }))
            {
                value(json);
            }

            file.WriteByte((byte)'\n');
        }

        File.Move(path + ".partial", path, overwrite: true);
    }

    /// <summary>Reads a score; null when there is none.</summary>
    /// <exception cref="InvalidInputException">It is not a score.</exception>
    public static JsonElement? ReadScore(string path)
    {
        if (!File.Exists(path))
        {
            return null;
        }

        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            return json.RootElement.ValueKind == JsonValueKind.Object
                ? json.RootElement.Clone()
                : throw new InvalidInputException($"{path} is not a score of z1 eval; grade the answers again.");
        }
        catch (JsonException e)
        {
            throw new InvalidInputException($"{path} is not a score of z1 eval: {e.Message}", e);
        }
    }

    /// <summary>A hash of everything that grades a task: two runs whose hashes differ did not face the same task.</summary>
    public static string HashOf(BenchmarkTask task) => task.Hash ?? OutcomeJournal.KeyOf([
        task.TaskId, task.Context, task.Calibration, task.Setup, task.Tests, task.Reference ?? "", task.Oracle ?? "",
        task.OracleProgram ?? "",
        .. task.Cases.SelectMany(c => new[] { c.Stdin, c.Stdout }),
    ])[..HashDigits];
}
