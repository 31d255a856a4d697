using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>How the program of one sample ended, in words: a line of <see cref="EvaluationFiles.Details"/>.</summary>
/// <param name="Outcome">The outcome.</param>
/// <param name="Error">End of standard error.</param>
/// <param name="WallSeconds">What it took.</param>
/// <param name="LimitSeconds">What it was allowed.</param>
public sealed record RunDetail(string Outcome, string Error, double WallSeconds, double LimitSeconds)
{
    /// <summary>The last run of each sample; a later file counts more. Runs of references are left out.</summary>
    /// <exception cref="InvalidInputException">Names the file, the line and the field.</exception>
    public static IReadOnlyDictionary<(string TaskId, int Sample), RunDetail> Read(params IEnumerable<string> paths)
    {
        var details = new Dictionary<(string, int), RunDetail>();
        foreach (var (where, row) in paths.Where(File.Exists).SelectMany(p => JsonRows.Read(p, growing: true)))
        {
            if (JsonRows.Text(where, row, "run", required: true) != "reference")
            {
                details[(JsonRows.Text(where, row, "task_id", required: true)!, (int)Number(where, row, "sample"))] = new RunDetail(
                    JsonRows.Text(where, row, "outcome", required: true)!, JsonRows.Text(where, row, "stderr", required: false) ?? "",
                    Number(where, row, "wall_seconds"), Number(where, row, "limit_seconds"));
            }
        }

        return details;
    }

    private static double Number(string where, JsonElement row, string field) =>
        row.TryGetProperty(field, out var value) && value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number)
            ? number
            : throw new InvalidInputException($"{where}: the field \"{field}\" is missing or not a number.");
}
