using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>One line of <see cref="EvaluationFiles.Answers"/>.</summary>
/// <param name="TaskId">The task.</param>
/// <param name="Kind">Its group; null when there is none.</param>
/// <param name="Tests">Hash of what grades the task; null when the file does not say.</param>
/// <param name="Prompt">What was asked; empty when the file does not say.</param>
/// <param name="Text">The answer.</param>
public sealed record AnswerRow(string TaskId, string? Kind, string? Tests, string Prompt, string Text)
{
    private static readonly string[] s_texts = ["completion", "solution", "text"];

    /// <summary>Answers by task and by their order in it; empty when there is no such file.</summary>
    /// <exception cref="InvalidInputException">Names the file, the line and the field.</exception>
    public static IReadOnlyDictionary<string, IReadOnlyList<AnswerRow>> Read(string path)
    {
        var answers = new Dictionary<string, List<AnswerRow>>(StringComparer.Ordinal);
        if (File.Exists(path))
        {
            foreach (var (where, row) in JsonRows.Read(path))
            {
                var id = JsonRows.Text(where, row, "task_id", required: true)!;
                if (!answers.TryGetValue(id, out var list))
                {
                    answers.Add(id, list = []);
                }

                var field = s_texts.FirstOrDefault(f => row.TryGetProperty(f, out var value) && value.ValueKind != JsonValueKind.Null) ?? s_texts[0];
                list.Add(new AnswerRow(
                    id, JsonRows.Text(where, row, "kind", required: false), JsonRows.Text(where, row, "tests", required: false),
                    JsonRows.Text(where, row, "prompt", required: false) ?? "", JsonRows.Text(where, row, field, required: true)!));
            }
        }

        return answers.ToDictionary(a => a.Key, a => (IReadOnlyList<AnswerRow>)a.Value, StringComparer.Ordinal);
    }
}
