using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// Answers made elsewhere, in the formats of evalplus, bigcodebench and CodeEval-Pro (task_id and "solution", a whole program, or "completion", which
/// continues the prompt; a string, or a list of them) and LiveCodeBench (question_id and code_list). The n-th answer to a task is its n-th sample.
/// </summary>
public static class SampleFile
{
    private static readonly string[] s_fields = ["solution", "completion", "code_list"];

    /// <summary>Reads .jsonl, .json, or either as .gz.</summary>
    /// <param name="path">The file.</param>
    /// <param name="benchmark">Says how a task is named.</param>
    /// <param name="tasks">Every task that may be answered.</param>
    /// <param name="calibrated">Whole programs come after the prompt's imports and signature where the benchmark wants it so.</param>
    /// <exception cref="InvalidInputException">Names the file, the line and the field.</exception>
    public static IReadOnlyList<Sample> Read(string path, Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, bool calibrated)
    {
        var known = tasks.Select(t => t.TaskId).ToHashSet(StringComparer.Ordinal);
        var lists = new HashSet<string>(StringComparer.Ordinal);
        var single = new HashSet<string>(StringComparer.Ordinal);
        var samples = new List<Sample>();
        foreach (var (where, row) in JsonRows.Read(path))
        {
            var id = Id(where, row, benchmark.IdField);
            var task = benchmark.TaskIdOf(id);
            if (!known.Contains(task))
            {
                throw new InvalidInputException($"{where}: \"{id}\" is none of the {tasks.Count} tasks of {benchmark.Name} in the files given.");
            }

            var field = s_fields.FirstOrDefault(f => row.TryGetProperty(f, out var value) && value.ValueKind != JsonValueKind.Null)
                ?? throw new InvalidInputException($"{where}: none of the fields \"{string.Join("\", \"", s_fields)}\" is there; one of them must hold the code.");
            var mode = field == "completion" ? CompletionMode.Continuation : calibrated && benchmark.CalibratesPrograms ? CompletionMode.Calibrated : CompletionMode.Program;
            var content = row.GetProperty(field);
            if (content.ValueKind == JsonValueKind.Array)
            {
                if (!lists.Add(task) || single.Contains(task))
                {
                    throw new InvalidInputException($"{where}: the task \"{id}\" stands twice; its list must hold all its answers.");
                }

                if (content.GetArrayLength() == 0)
                {
                    throw new InvalidInputException($"{where}: the field \"{field}\" is empty; a task without an answer must be left out.");
                }

                foreach (var item in content.EnumerateArray())
                {
                    samples.Add(new Sample(task, item.ValueKind == JsonValueKind.String
                        ? JsonRows.String(where, item, field)
                        : throw new InvalidInputException($"{where}: the field \"{field}\" holds a {item.ValueKind}; it must hold strings."), mode));
                }
            }
            else
            {
                if (lists.Contains(task))
                {
                    throw new InvalidInputException($"{where}: the task \"{id}\" stands twice; its list must hold all its answers.");
                }

                single.Add(task);
                samples.Add(new Sample(task, JsonRows.Text(where, row, field, required: true)!, mode));
            }
        }

        return samples.Count > 0 ? samples : throw new InvalidInputException($"{path} holds no sample; it must hold one JSON object per line.");
    }

    private static string Id(string where, JsonElement row, string field) =>
        row.TryGetProperty(field, out var value) && value.ValueKind == JsonValueKind.Number
            ? value.GetRawText()
            : JsonRows.Text(where, row, field, required: true)!;
}
