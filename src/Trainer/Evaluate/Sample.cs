using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>One answer of a model to one task.</summary>
/// <param name="TaskId">The task it answers.</param>
/// <param name="Code">Code, no longer chat text.</param>
/// <param name="Mode">How code and prompt go together.</param>
public sealed record Sample(string TaskId, string Code, CompletionMode Mode = CompletionMode.Auto)
{
    /// <summary>True when the model was not asked because the prompt does not fit into its context: the sample fails without a run.</summary>
    public bool IsUnanswered { get; init; }

    /// <summary>
    /// Reads saved answers: one object per line with task_id and either "completion" (continues the prompt) or "solution" (a whole program), any
    /// number per task, as HumanEval and EvalPlus write them. The n-th line of a task is its n-th sample.
    /// </summary>
    /// <exception cref="InvalidInputException">Names the file, the line and the field.</exception>
    public static IReadOnlyList<Sample> Read(string path)
    {
        var samples = new List<Sample>();
        foreach (var (where, row) in JsonRows.Read(path))
        {
            var task = JsonRows.Text(where, row, "task_id", required: true)!;
            var solution = JsonRows.Text(where, row, "solution", required: false);
            var completion = JsonRows.Text(where, row, "completion", required: false);
            samples.Add((solution, completion) switch
            {
                (not null, _) => new Sample(task, solution, CompletionMode.Program),
                (_, not null) => new Sample(task, completion, CompletionMode.Continuation),
                _ => throw new InvalidInputException(
                    $"{where}: neither \"completion\" nor \"solution\" is there; one of them must hold the code."),
            });
        }

        return samples.Count > 0 ? samples : throw new InvalidInputException($"{path} holds no sample; it must hold one JSON object per line.");
    }
}
