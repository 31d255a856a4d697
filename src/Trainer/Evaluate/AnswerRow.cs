using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>One line of <see cref="EvaluationFiles.Answers"/>.</summary>
/// <param name="TaskId">The task.</param>
/// <param name="Sample">Which of the answers to it, from 0.</param>
/// <param name="Kind">The task's group; null when there is none.</param>
/// <param name="Tests">Hash of what grades the task; null when the file does not say.</param>
/// <param name="Prompt">What was asked; empty when the file does not say.</param>
/// <param name="Text">The answer.</param>
/// <param name="Finish">Why it ended, such as end_token or length; null when the file does not say.</param>
public sealed record AnswerRow(string TaskId, int Sample, string? Kind, string? Tests, string Prompt, string Text, string? Finish)
{
    private static readonly string[] s_texts = ["completion", "solution", "text"];

    /// <summary>
    /// Answers by task, in the order of the samples; of two with one number the first counts. A line without a number is the next sample of
    /// its task. Empty when there is no such file.
    /// </summary>
    /// <exception cref="InvalidInputException">Names the file, the line and the field.</exception>
    public static IReadOnlyDictionary<string, IReadOnlyList<AnswerRow>> Read(string path)
    {
        var answers = new Dictionary<string, SortedDictionary<int, AnswerRow>>(StringComparer.Ordinal);
        if (File.Exists(path))
        {
            foreach (var (where, row) in JsonRows.Read(path, growing: true))
            {
                var id = JsonRows.Text(where, row, "task_id", required: true)!;
                if (!answers.TryGetValue(id, out var samples))
                {
                    answers.Add(id, samples = []);
                }

                var number = Number(where, row) ?? samples.Count;
                samples.TryAdd(number, Of(where, row, id, number));
            }
        }

        return answers.ToDictionary(a => a.Key, a => (IReadOnlyList<AnswerRow>)[.. a.Value.Values], StringComparer.Ordinal);
    }

    private static AnswerRow Of(string where, JsonElement row, string id, int number)
    {
        string? Text(string field) => JsonRows.Text(where, row, field, required: false);
        var answer = s_texts.Select(Text).FirstOrDefault(t => t is not null) ?? JsonRows.Text(where, row, s_texts[0], required: true)!;
        return new AnswerRow(id, number, Text("kind"), Text("tests"), Text("prompt") ?? "", answer, Text("finish"));
    }

    private static int? Number(string where, JsonElement row) =>
        !row.TryGetProperty("sample", out var value) || value.ValueKind == JsonValueKind.Null ? null
        : value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) && number >= 0 ? number
        : throw new InvalidInputException($"{where}: the field \"sample\" is not a whole number of 0 or more.");
}
