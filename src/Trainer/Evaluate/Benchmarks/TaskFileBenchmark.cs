namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>
/// Tasks of one's own in HumanEval's format (z1 eval --tasks, and pass@1 during training): the prompt alone is the user's turn, the answer
/// is free text, and the code is taken out of it.
/// </summary>
public sealed class TaskFileBenchmark : Benchmark
{
    /// <inheritdoc/>
    public override string Name => "tasks";

    /// <inheritdoc/>
    public override string Description => "tasks of one's own: task_id, prompt, entry_point, test; maybe canonical_solution, kind";

    /// <inheritdoc/>
    public override string Source => "a file";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files => [];

    /// <inheritdoc/>
    public override IReadOnlyList<string> Stops => [];

    /// <inheritdoc/>
    public override int MaxNewTokens => 512;

    /// <inheritdoc/>
    public override SandboxLimits Limits { get; } = new();

    /// <inheritdoc/>
    public override Sample Extract(BenchmarkTask task, string answer) =>
        new(task.TaskId, CodeExtractor.Extract(answer, entryPoint: task.EntryPoint));

    /// <inheritdoc/>
    public override string Compose(BenchmarkTask task, Sample sample) =>
        HumanEvalProgram.Join(task.Context, task.EntryPoint, sample.Code, sample.Mode);

    /// <summary>The task of a problem in this format.</summary>
    internal static BenchmarkTask TaskOf(HumanEvalTask task) => HumanEvalBenchmark.TaskOf(task) with { Prompt = task.Prompt, Prefix = "" };

    private protected override BenchmarkTask TaskOf(BenchmarkRow row) => TaskOf(HumanEvalBenchmark.ProblemOf(row));
}
