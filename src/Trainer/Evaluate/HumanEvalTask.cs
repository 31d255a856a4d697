using System.Text.RegularExpressions;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>One problem in the form of HumanEval (Chen et al. 2021, arXiv:2107.03374).</summary>
/// <param name="TaskId">Name, unique in its file.</param>
/// <param name="Prompt">Imports, signature and docstring.</param>
/// <param name="EntryPoint">Function under test.</param>
/// <param name="Test">Code that defines check(candidate), or asserts directly.</param>
/// <param name="CanonicalSolution">Body that completes the prompt; null when the file has none.</param>
/// <param name="Kind">Group for reports, such as "plain" or "self-invoking"; null when the file has none.</param>
public sealed partial record HumanEvalTask(
    string TaskId, string Prompt, string EntryPoint, string Test, string? CanonicalSolution = null, string? Kind = null)
{
    /// <summary>Reads a .jsonl file or a .json array, plain or .gz.</summary>
    /// <exception cref="InvalidInputException">Names the file, the line or element, and the field.</exception>
    public static IReadOnlyList<HumanEvalTask> Read(string path)
    {
        var tasks = new List<HumanEvalTask>();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (where, row) in JsonRows.Read(path))
        {
            var task = new HumanEvalTask(
                JsonRows.Text(where, row, "task_id", required: true)!,
                JsonRows.Text(where, row, "prompt", required: true)!,
                JsonRows.Text(where, row, "entry_point", required: true)!,
                JsonRows.Text(where, row, "test", required: true)!,
                JsonRows.Text(where, row, "canonical_solution", required: false),
                JsonRows.Text(where, row, "kind", required: false));
            if (!seen.Add(task.TaskId))
            {
                throw new InvalidInputException($"{where}: the task_id \"{task.TaskId}\" stands twice; each task must have its own.");
            }

            if (!Identifier().IsMatch(task.EntryPoint))
            {
                throw new InvalidInputException($"{where}: the entry_point \"{task.EntryPoint}\" is not the name of a Python function.");
            }

            if (string.IsNullOrWhiteSpace(task.Test))
            {
                throw new InvalidInputException($"{where}: the field \"test\" is empty; anything would pass.");
            }

            tasks.Add(task);
        }

        return tasks.Count > 0 ? tasks : throw new InvalidInputException($"{path} holds no task; it must hold one JSON object per line.");
    }

    [GeneratedRegex(@"^[\p{L}_][\p{L}\p{N}_]*\z", RegexOptions.CultureInvariant)]
    private static partial Regex Identifier();
}
