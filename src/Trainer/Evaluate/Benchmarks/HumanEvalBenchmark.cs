namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>HumanEval: complete a Python function from its signature and docstring; the tests are a function check(candidate). 164 tasks.</summary>
public sealed class HumanEvalBenchmark : Benchmark
{
    /// <inheritdoc/>
    public override string Name => "humaneval";

    /// <inheritdoc/>
    public override string Description => "complete a function from its docstring; 164 tasks";

    /// <inheritdoc/>
    public override string Source => "Chen et al. 2021, arXiv:2107.03374; openai/human-eval";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files { get; } = [["HumanEval.jsonl.gz"], ["HumanEval.jsonl"]];

    /// <inheritdoc/>
    public override IReadOnlyList<string> Stops { get; } = [.. EndTokens, "\nif __name__", "\ndef main(", "\nprint(", "\n```"];

    /// <inheritdoc/>
    public override string Compose(BenchmarkTask task, Sample sample) => HumanEvalProgram.Join(task.Context, task.EntryPoint, sample.Code, sample.Mode);

    /// <summary>The task of a problem in this format.</summary>
    internal static BenchmarkTask TaskOf(HumanEvalTask task) => new()
    {
        TaskId = task.TaskId,
        Prompt = $"Write a solution to the following problem:\n```python\n{task.Prompt}\n```",
        Prefix = "```python\n" + task.Prompt,
        EntryPoint = task.EntryPoint,
        Context = task.Prompt,
        Reference = task.CanonicalSolution is { } body ? HumanEvalProgram.Join(task.Prompt, task.EntryPoint, body, CompletionMode.Continuation) : null,
        Kind = task.Kind,
        Tests = HumanEvalProgram.TestsOf(task),
    };

    /// <summary>The problem of a row in this format.</summary>
    internal static HumanEvalTask ProblemOf(BenchmarkRow row) => new(
        row.Text("task_id"), row.Text("prompt"), row.Identifier("entry_point"), row.Text("test"), row.TextOrNull("canonical_solution"),
        row.TextOrNull("kind"));

    private protected override BenchmarkTask TaskOf(BenchmarkRow row) => TaskOf(ProblemOf(row));
}
