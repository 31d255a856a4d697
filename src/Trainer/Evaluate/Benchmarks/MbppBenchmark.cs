using System.Globalization;

namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>
/// MBPP: a function from one sentence and three assertions. The full file (974 tasks; the published scores use "test", ids 11 to 510) or the sanitized
/// one (427). The file does not name the function; the assertions do.
/// </summary>
public sealed class MbppBenchmark : Benchmark
{
    /// <inheritdoc/>
    public override string Name => "mbpp";

    /// <inheritdoc/>
    public override string Description => "a function from one sentence and its assertions; 974 tasks, 427 sanitized";

    /// <inheritdoc/>
    public override string Source => "Austin et al. 2021, arXiv:2108.07732; google-research/mbpp";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files { get; } = [["mbpp.jsonl"], ["sanitized-mbpp.json"]];

    /// <inheritdoc/>
    public override IReadOnlyList<string> Stops { get; } = [.. EndTokens, "\nassert", "\nprint(", "\n```\n"];

    /// <inheritdoc/>
    public override string TaskIdOf(string id) => id[(id.LastIndexOf('/') + 1)..];

    private protected override BenchmarkTask TaskOf(BenchmarkRow row)
    {
        var id = row.Id("task_id");
        if (!int.TryParse(id, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            throw row.Error("task_id", "is not a number");
        }

        var description = row.Text(row.Has("text") ? "text" : "prompt").Trim();
        var assertions = row.Texts("test_list", required: true);
        if (assertions.Count == 0)
        {
            throw row.Error("test_list", "is empty; anything would pass");
        }

        string[] setup = [row.TextOrNull("test_setup_code") ?? "", .. row.Texts("test_imports", required: false)];
        return new BenchmarkTask
        {
            TaskId = id,
            Prompt = $"{(description.EndsWith('.') ? description : description + ".")} Your code should satisfy the following assertion:\n```python\n{assertions[0].Trim()}\n```",
            Prefix = "```python\n",
            Reference = row.Text("code"),
            Kind = row.Has("test_imports") ? null : number switch { <= 10 => "prompt", <= 510 => "test", <= 600 => "validation", _ => "train" },
            Tests = string.Join("\n", [.. setup.Where(s => s.Length > 0), .. assertions, .. row.Texts("challenge_test_list", required: false)]) + "\n",
        };
    }
}
