using System.Runtime.InteropServices;
using System.Text.Json;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Curation.Filters;

/// <summary>
/// The words of benchmarks' problems and solutions, to find them in training data. A text is contaminated when it holds a run of n words
/// (10 unless told otherwise, as Qwen2.5-Coder's report decontaminates, arXiv:2409.12186) of a task, or the whole of a task's text that is
/// shorter than n words (from five on). Memory: 16 bytes or so a word of the benchmarks, whatever the size of the data. Read-only once
/// loaded: any number of threads.
/// </summary>
public sealed class BenchmarkIndex
{
    /// <summary>Words of a run unless told otherwise.</summary>
    public const int DefaultWords = 10;

    private const int FieldsShown = 4, KeysShown = 8;
    private const int FewestWords = 5;                  // a shorter text ("Return n factorial.") says nothing
    private static readonly string[] s_ids = ["task_id", "question_id", "id", "name"];

    /// <summary>Problems and solutions under the names that the published files give them.</summary>
    private static readonly string[] s_fields =
    [
        "prompt", "text", "question", "question_content", "content", "problem", "instruction", "description", "complete_prompt",
        "instruct_prompt", "raw_problem",
        "new_problem", "canonical_solution", "code", "solution", "raw_solution", "new_solution", "reference", "starter_code",
    ];

    private readonly int _words;
    private readonly Dictionary<int, Dictionary<ulong, Entry>> _runs = [];
    private readonly List<(string Task, string Field)> _sources = [];

    /// <summary>An index over runs of <paramref name="words"/> words.</summary>
    public BenchmarkIndex(int words = DefaultWords) => _words = words;

    /// <summary>Tasks read.</summary>
    public int Tasks { get; private set; }

    /// <summary>Texts of tasks that are too short to tell.</summary>
    public int TooShort { get; private set; }

    /// <summary>Reads a benchmark: a JSON array, JSONL, or an object whose values are the tasks; plain or gzip.</summary>
    /// <param name="path">the file</param>
    /// <param name="fields">text fields to look at; empty takes every known one</param>
    public void Add(string path, params IReadOnlyList<string> fields)
    {
        ArgumentNullException.ThrowIfNull(fields);
        var (before, number, texts) = (_sources.Count, 0, 0);
        var keys = "";
        foreach (var (where, name, row) in JsonRows.ReadNamed(path))
        {
            number++;
            keys = number == 1 ? string.Join(", ", row.EnumerateObject().Take(KeysShown).Select(p => p.Name)) : keys;
            var id = name ?? s_ids.Select(key => Id(where, row, key)).FirstOrDefault(value => value is not null) ?? $"{number}";
            var task = id.Contains('/') ? id : $"{Path.GetFileNameWithoutExtension(path)}/{id}";
            foreach (var field in fields.Count > 0 ? fields : s_fields)
            {
                if (row.TryGetProperty(field, out var value) && value.ValueKind == JsonValueKind.String)
                {
                    texts++;
                    Add(task, field, JsonRows.String(where, value, field), Tasks);
                }
                else if (fields.Count > 0)
                {
                    throw new InvalidInputException($"{where}: task {number} ({id}) has no text field '{field}'");
                }
            }

            Tasks++;
        }

        if (_sources.Count == before)
        {
            throw new InvalidInputException($"{path}: " + (number == 0 ? "no task; there must be one JSON object per task"
                : texts > 0 ? $"no text of a task has {FewestWords} words or more"
                : $"no task has a text field of a known name ({string.Join(", ", s_fields.Take(FieldsShown))} and {s_fields.Length - FieldsShown} more); "
                    + $"the first has {keys}: name those that hold text with --benchmark-fields"));
        }
    }

    /// <summary>Forgets runs that stand in at least so many tasks: boilerplate such as "the first line contains a single integer
    /// t".</summary>
    /// <returns>Runs forgotten.</returns>
    public int ForgetCommon(int tasks)
    {
        var forgotten = 0;
        foreach (var runs in _runs.Values)
        {
            foreach (var run in runs.Where(r => r.Value.Tasks >= tasks).Select(r => r.Key).ToList())
            {
                runs.Remove(run);
                forgotten++;
            }
        }

        return forgotten;
    }

    /// <summary>The first run of words that the text shares with a task, or null.</summary>
    public BenchmarkMatch? Find(string text)
    {
        var (words, at) = (new List<ulong>(), new List<Range>());
        WordHashes.Of(text, words, at);
        foreach (var (length, runs) in _runs)
        {
            var start = 0;
            foreach (var run in WordHashes.Runs(words, length))
            {
                if (runs.TryGetValue(run, out var entry))
                {
                    var (task, field) = _sources[entry.Source];
                    var shared = text[at[start].Start.Value..at[start + length - 1].End.Value];
                    return new BenchmarkMatch(task, field,
                        string.Join(' ', shared.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)));
                }

                start++;
            }
        }

        return null;
    }

    private static string? Id(string where, JsonElement row, string key) => !row.TryGetProperty(key, out var value) ? null : value.ValueKind switch
    {
        JsonValueKind.String => JsonRows.String(where, value, key),
        JsonValueKind.Number => value.GetRawText(),
        _ => null,
    };

    private void Add(string task, string field, string text, int number)
    {
        var words = new List<ulong>();
        WordHashes.Of(text, words);
        if (words.Count < FewestWords)
        {
            TooShort += words.Count > 0 ? 1 : 0;
            return;
        }

        var length = Math.Min(words.Count, _words);
        if (!_runs.TryGetValue(length, out var runs))
        {
            _runs.Add(length, runs = []);
        }

        _sources.Add((task, field));
        foreach (var run in WordHashes.Runs(words, length))
        {
            ref var entry = ref CollectionsMarshal.GetValueRefOrAddDefault(runs, run, out var known);
            entry = !known ? new Entry(_sources.Count - 1, number, 1) : entry.LastTask == number ? entry
                : entry with { LastTask = number, Tasks = entry.Tasks + 1 };
        }
    }

    private readonly record struct Entry(int Source, int LastTask, int Tasks);
}
