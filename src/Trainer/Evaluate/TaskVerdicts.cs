using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>The verdicts of one task in a file of results.</summary>
/// <param name="TaskId">The task.</param>
/// <param name="Passed">Per sample.</param>
/// <param name="Outcome">How the first sample that did not pass ended; "Passed" when all did.</param>
public sealed record TaskVerdicts(string TaskId, IReadOnlyList<bool> Passed, string Outcome)
{
    private const string Passes = nameof(SandboxOutcome.Passed);

    /// <summary>How each sample ended.</summary>
    public IReadOnlyList<string> Outcomes { get; init; } = [];

    /// <summary>Reads a results file, tasks in its order.</summary>
    /// <exception cref="InvalidInputException">Names the file, the line and the field.</exception>
    public static IReadOnlyList<TaskVerdicts> Read(string path)
    {
        var order = new List<string>();
        var passed = new Dictionary<string, List<bool>>(StringComparer.Ordinal);
        var outcomes = new Dictionary<string, List<string>>(StringComparer.Ordinal);
        foreach (var (where, row) in JsonRows.Read(path))
        {
            var id = JsonRows.Text(where, row, "task_id", required: true)!;
            if (!row.TryGetProperty("passed", out var value) || value.ValueKind is not (JsonValueKind.True or JsonValueKind.False))
            {
                throw new InvalidInputException($"{where}: the field \"passed\" is missing or neither true nor false.");
            }

            if (!row.TryGetProperty("sample", out var sample) || sample.ValueKind != JsonValueKind.Number || !sample.TryGetInt32(out var number))
            {
                throw new InvalidInputException($"{where}: the field \"sample\" is missing or not a whole number.");
            }

            if (!passed.TryGetValue(id, out var list))
            {
                order.Add(id);
                passed.Add(id, list = []);
                outcomes.Add(id, []);
            }

            if (number != list.Count)
            {
                throw new InvalidInputException($"{where}: sample {number} of \"{id}\" stands where sample {list.Count} must be; each must stand once, in order.");
            }

            list.Add(value.GetBoolean());
            outcomes[id].Add(value.GetBoolean() ? Passes : JsonRows.Text(where, row, "outcome", required: false) ?? "Failed");
        }

        return order.Count > 0
            ? [.. order.Select(id => new TaskVerdicts(id, passed[id], outcomes[id].Where((_, i) => !passed[id][i]).FirstOrDefault(Passes)) { Outcomes = outcomes[id] })]
            : throw new InvalidInputException($"{path} holds no result; it must hold one JSON object per line.");
    }
}
