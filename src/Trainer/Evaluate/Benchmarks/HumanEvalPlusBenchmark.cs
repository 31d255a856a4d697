namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>
/// HumanEval+: HumanEval's functions on many more inputs. One file as released (v0.1.x: prompt, canonical_solution, base_input, plus_input, atol), or
/// the three of the pre-release: HumanEval.jsonl for prompts, one file of references and base inputs, one of plus inputs. 164 tasks.
/// </summary>
public sealed class HumanEvalPlusBenchmark : EvalPlusBenchmark
{
    // find_zero has many right answers: the polynomial's value there decides, not the root. Where the reference's own search ends elsewhere (some inputs
    // of the pre-release) nothing is decided.
    private const string FindZero = """
                if True:
                    import math
                    def value(x):
                        return abs(sum(c * math.pow(x, i) for i, c in enumerate(inp[0])))
                    assert not value(exp) <= atol or value(out) <= atol, f"input {at}: no zero"
                    continue
        """;

    /// <inheritdoc/>
    public override string Name => "humaneval+";

    /// <inheritdoc/>
    public override string Description => "HumanEval with many more inputs, base and plus together; 164 tasks";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files { get; } =
    [
        ["HumanEvalPlus-v*.jsonl.gz"], ["HumanEvalPlus-v*.jsonl"],
        ["HumanEval.jsonl", "HumanEvalPlus-prerelease.jsonl", "HumanEvalPlusInputs-prerelease.jsonl"],
        ["HumanEval.jsonl.gz", "HumanEvalPlus-prerelease.jsonl", "HumanEvalPlusInputs-prerelease.jsonl"],
    ];

    private protected override Func<BenchmarkRow, string> JoinId => IdOf;

    private protected override BenchmarkTask TaskOf(BenchmarkRow row)
    {
        var (prompt, entryPoint) = (row.Text("prompt"), row.Identifier("entry_point"));
        var body = row.TextOrNull("reference") ?? row.Text("canonical_solution");

        // Only the pre-release has a field of this name, and plus inputs that no contract has been held against.
        var contracted = row.Has("reference") && row.TextOrNull("contract") is { } contract ? prompt + contract + body : null;
        return TaskOf(row, IdOf(row), prompt, entryPoint, prompt + body, "inp", entryPoint == "find_zero" ? FindZero : "", "out", contracted);
    }

    // The pre-release's inputs are named HumanEval_0.
    private static string IdOf(BenchmarkRow row) => row.Text("task_id").Replace('_', '/');
}
