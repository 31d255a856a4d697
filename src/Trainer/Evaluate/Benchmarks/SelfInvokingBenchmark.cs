namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>
/// What HumanEval Pro, MBPP Pro and BigCodeBench-Lite Pro share (Yu et al. 2024, arXiv:2412.21199; CodeEval-Pro): a base problem and a second one whose
/// solution calls the first; the tests assert on the second alone. The graded program is raw_problem + completion + test_code. The published score is
/// the higher of the completions as they are and cut at the first "if __name__", else "# Test", else "# Example".
/// </summary>
public abstract class SelfInvokingBenchmark : Benchmark
{
    private static readonly string[] s_cuts = ["if __name__", "# Test", "# Example"];

    /// <summary>What stands before the number of a task.</summary>
    private protected abstract string Prefix { get; }

    /// <inheritdoc/>
    public override string Source => "Yu et al. 2024, arXiv:2412.21199; CodeEval-Pro";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Stops { get; } = [.. EndTokens, "<|EOT|>"];

    /// <inheritdoc/>
    public override int MaxNewTokens => 4096;

    /// <inheritdoc/>
    public override double FloorSeconds => 10;

    /// <inheritdoc/>
    public override bool ScoresSanitized => true;

    /// <inheritdoc/>
    public override string Sanitize(string code)
    {
        var at = s_cuts.Select(c => code.IndexOf(c, StringComparison.Ordinal)).FirstOrDefault(i => i >= 0, -1);
        return at < 0 ? code : code[..at];
    }

    // Answers name a task by its number, or by any name that ends in it.
    /// <inheritdoc/>
    public override string TaskIdOf(string id) => Prefix + id[(id.LastIndexOf('/') + 1)..];

    private protected override BenchmarkTask TaskOf(BenchmarkRow row)
    {
        var (raw, harder) = (row.Text("raw_problem"), row.Text("new_problem"));
        return new BenchmarkTask
        {
            TaskId = TaskIdOf(row.Id("id")),
            Prompt = "Write a solution of python file to the following problems, the solution of the second problem requires single or multiple calls to the "
                + $"first solution.\n```python\n{raw.Trim()}\n{harder.Trim()}\n```",
            Prefix = "```python\n" + raw.Trim() + "\n",
            Context = raw,
            Reference = raw + row.Text("raw_solution") + harder + row.Text("new_solution"),
            Tests = row.Text("test_code"),
        };
    }
}
