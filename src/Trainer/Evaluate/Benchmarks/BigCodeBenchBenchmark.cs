namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>
/// BigCodeBench (Zhuo et al. 2024, arXiv:2406.15877): functions that use many libraries, graded by a unittest class TestCases; full (1,140 tasks) and
/// hard (148), asked by docstring (complete) or in words (instruct). Whole solutions are graded calibrated by default: code_prompt and "pass" come
/// first, so that a forgotten import or signature does not fail an answer.
/// </summary>
/// <param name="hard">The 148 hard tasks; the files have one layout.</param>
/// <param name="instruct">Asked in words instead of by docstring.</param>
public sealed class BigCodeBenchBenchmark(bool hard, bool instruct) : Benchmark
{
    /// <summary>
    /// Libraries reserve far more address space than they touch: upstream allows 30 GiB of either. Here resident memory is limited apart, so that one
    /// program cannot take the machine.
    /// </summary>
    internal static SandboxLimits Room { get; } =
        new() { MemoryBytes = 30L << 30, ResidentBytes = 4L << 30, Processes = 128, FileBytes = 256 << 20, OpenFiles = 1024 };

    /// <inheritdoc/>
    public override string Name => $"bigcodebench{(hard ? "-hard" : "")}-{(instruct ? "instruct" : "complete")}";

    /// <inheritdoc/>
    public override string Description => $"practical functions over many libraries, asked {(instruct ? "in words" : "by docstring")}; {(hard ? 148 : 1140)} tasks";

    /// <inheritdoc/>
    public override string Source => "Zhuo et al. 2024, arXiv:2406.15877; bigcodebench";

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<string>> Files { get; } =
        hard ? [["bigcodebench_hard.json"], ["BigCodeBench-Hard*.jsonl"]] : [["bigcodebench_full.json"], ["BigCodeBench-v*.jsonl"], ["bigcodebench.json"]];

    /// <inheritdoc/>
    public override IReadOnlyList<string> Stops { get; } = [.. EndTokens, "\nif __name__", "\ndef main(", "\nprint(", "\n```\n"];

    /// <inheritdoc/>
    public override SandboxLimits Limits => Room;

    /// <inheritdoc/>
    public override double FloorSeconds => 240;

    /// <inheritdoc/>
    public override bool CalibratesPrograms => true;

    /// <inheritdoc/>
    public override string Compose(BenchmarkTask task, Sample sample) =>
        sample.Mode switch
        {
            CompletionMode.Program => sample.Code,
            CompletionMode.Calibrated => task.Calibration + "\n    pass\n" + sample.Code,
            _ => task.Context + sample.Code,
        };

    /// <inheritdoc/>
    public override Sample Extract(BenchmarkTask task, string answer) =>
        new(task.TaskId, CodeExtractor.CutAtFence(answer).Replace("\t", "    ", StringComparison.Ordinal), CompletionMode.Calibrated);

    private protected override BenchmarkTask TaskOf(BenchmarkRow row)
    {
        var (complete, words) = (row.Text("complete_prompt"), row.Text("instruct_prompt"));
        var signature = row.Text("code_prompt");
        const string ask = "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n";
        return new BenchmarkTask
        {
            TaskId = row.Text("task_id"),
            Prompt = ask + (instruct ? words.Trim() + "\n" : $"```\n{complete.Trim()}\n```\n"),
            Prefix = "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n```python\n",
            EntryPoint = row.Identifier("entry_point"),
            Context = complete,
            Reference = signature + row.Text("canonical_solution"),
            Calibration = signature,
            Tests = row.Text("test") + Suite,
        };
    }

    // A suite without a test would pass anything.
    private const string Suite = """


        def z1_suite():
            import sys, unittest
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(TestCases).run(result)
            for test, trace in result.failures + result.errors:
                sys.stderr.write(f"{test.id()}\n{trace}\n")
            assert not result.failures and not result.errors, f"{len(result.failures) + len(result.errors)} of {result.testsRun} tests fail"
            assert result.testsRun > 0, "no test ran"
        z1_suite()
        """;
}
