using System.Diagnostics;
using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Evaluate.Benchmarks;

namespace Z1Coder.Tests.Trainer.Evaluate;

[Collection("sandbox")]
public sealed class GraderTests(ITestOutputHelper output)
{
    private static readonly HumanEvalTask[] s_tasks =
    [
        new("T/0", "def f():\n", "f", "def check(c):\n    assert c() == 1\n", "    return 1\n", "plain"),
        new("T/1", "def g():\n", "g", "def check(c):\n    assert c() == 2\n", "    return 2\n", "self-invoking"),
        new("T/2", "def h():\n", "h", "assert h() == 3\n", null, "plain"),
    ];

    private static readonly Lazy<(Sandbox? Sandbox, string Message)> s_found = new(() =>
    {
        try
        {
            return (Sandbox.Create(), "");
        }
        catch (SandboxException e)
        {
            return (null, e.Message);
        }
    });

    [Fact]
    public async Task Every_canonical_solution_of_HumanEval_passes()
    {
        NeedSandbox();
        var tasks = HumanEvalTask.Read(TestFiles.Benchmark("HumanEval.jsonl"));
        Assert.Equal(82, tasks.Count);
        Sample[] samples = [.. tasks.Select(t => new Sample(t.TaskId, t.CanonicalSolution!))];
        var clock = Stopwatch.StartNew();
        var summary = await Evaluate(tasks, samples, new EvaluationOptions());
        output.WriteLine($"{tasks.Count} references and {samples.Length} samples: {clock.Elapsed.TotalSeconds:F2} s");
        Assert.Equal(1, summary.PassAt1);
        Assert.Equal(82, summary.Outcomes[SandboxOutcome.Passed]);
        Assert.Empty(summary.Excluded);
        Assert.Equal(PassAtK.Wilson(82, 82), summary.Interval);
        Assert.True(clock.Elapsed.TotalSeconds < 60, $"took {clock.Elapsed}");
    }

    [Fact]
    public async Task A_body_that_returns_None_fails_every_task_of_HumanEval()
    {
        NeedSandbox();
        var tasks = HumanEvalTask.Read(TestFiles.Benchmark("HumanEval.jsonl"));
        Sample[] samples = [.. tasks.Select(t => new Sample(t.TaskId, "    return None\n"))];
        var summary = await Evaluate(tasks, samples, new EvaluationOptions());
        Assert.Equal(0, summary.PassAt1);
        Assert.Equal(82, summary.Outcomes[SandboxOutcome.Failed]);
    }

    [Fact]
    public async Task Samples_kinds_and_outcomes_are_counted()
    {
        NeedSandbox();
        Sample[] samples =
        [
            new("T/0", "    return 1\n"), new("T/0", "    return 9\n"),
            new("T/1", "def g():\n    return 2\n"), new("T/1", "    return (\n"),
            new("T/2", "    import os\n    os._exit(0)\n"), new("T/2", "    return 3\n"), new("T/2", "    return 3\n"), new("T/2", "    return 3\n"),
        ];
        var summary = await Evaluate(s_tasks, samples, new EvaluationOptions { K = [1, 2, 3] });
        Assert.Equal((0.5 + 0.5 + 0.75) / 3, summary.PassAt1, 12);
        Assert.Equal([1, 2], summary.PassAt.Keys.Order());
        Assert.Equal((1 + 1 + 1.0) / 3, summary.PassAt[2], 12);
        Assert.Equal(5, summary.Outcomes[SandboxOutcome.Passed]);
        Assert.Equal(2, summary.Outcomes[SandboxOutcome.Failed]);
        Assert.Equal(1, summary.Outcomes[SandboxOutcome.ExitedEarly]);
        Assert.Equal(["plain", "self-invoking"], summary.Kinds.Select(k => k.Kind));
        Assert.Equal(0.625, summary.Kinds[0].PassAt1, 12);
        Assert.Equal(1, summary.WithoutReference);
        Assert.Equal(new TaskScore("T/2", "plain", 4, 3), summary.Tasks[2]);
        Assert.InRange(summary.PassAt1, summary.Interval.Low, summary.Interval.High);
    }

    [Fact]
    public async Task Two_runs_with_other_worker_counts_write_equal_bytes()
    {
        NeedSandbox();
        Sample[] samples = [.. Enumerable.Range(0, 12).Select(i => new Sample($"T/{i % 3}", $"    return {i % 4}\n"))];
        var files = new List<byte[]>();
        foreach (var workers in (int[])[1, 5])
        {
            var results = TestFiles.Temporary("");
            var details = results + ".details";
            await Evaluate(s_tasks, samples, new EvaluationOptions { Workers = workers, ResultsPath = results, DetailsPath = details });
            files.Add(await File.ReadAllBytesAsync(results, TestContext.Current.CancellationToken));
            Assert.Equal(14, File.ReadLines(details).Count());
        }

        Assert.Equal(files[0], files[1]);
        var lines = System.Text.Encoding.UTF8.GetString(files[0]).TrimEnd().Split('\n');
        Assert.Equal(12, lines.Length);
        Assert.Equal("""{"task_id":"T/1","sample":1,"passed":false,"outcome":"Failed"}""", lines[4]);
    }

    [Fact]
    public async Task A_failing_reference_stops_the_run_by_name_or_leaves_its_task_out()
    {
        NeedSandbox();
        HumanEvalTask[] tasks = [s_tasks[0], s_tasks[1] with { CanonicalSolution = "    return 0\n" }];
        Sample[] samples = [new("T/0", "    return 1\n"), new("T/1", "    return 2\n")];
        var error = await Assert.ThrowsAsync<InvalidInputException>(() => Evaluate(tasks, samples, new EvaluationOptions()));
        Assert.Contains("T/1", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("T/0", error.Message, StringComparison.Ordinal);
        Assert.Contains("AssertionError", error.Message, StringComparison.Ordinal);
        var summary = await Evaluate(tasks, samples, new EvaluationOptions { Reference = ReferenceCheck.Exclude });
        Assert.Equal(["T/1"], summary.Excluded);
        Assert.Equal((1.0, 1), (summary.PassAt1, summary.Tasks.Count));
    }

    [Fact]
    public async Task A_time_out_is_run_again_alone_and_a_changed_verdict_is_reported()
    {
        NeedSandbox();

        // Hanging alone too: counted once, and run again when the slow one is done. The limit is the floor, or four times the reference.
        var details = TestFiles.Temporary("");
        var slow = s_tasks[1] with { CanonicalSolution = "    import time\n    time.sleep(1.5)\n    return 2\n" };
        var hang = await Evaluate(
            [s_tasks[0], slow], [new("T/0", "    while True: pass\n"), new("T/0", "    return 1\n"), new("T/1", slow.CanonicalSolution!)],
            new EvaluationOptions { FloorSeconds = 0.5, ReferenceFactor = 4, Workers = 2, DetailsPath = details });
        Assert.Equal((1, 0), (hang.RunAgainAlone, hang.ChangedVerdicts));
        Assert.Equal(1, hang.Outcomes[SandboxOutcome.TimedOut]);
        Assert.Equal([("T/1", "sample"), ("T/0", "alone")], Runs(details).TakeLast(2).Select(r => (r.Task, r.Run)));

        // Done at a fixed time of day: the first run reaches its limit before it, the second one starts within a limit of it.
        await WithRoom(async scale =>
        {
            var late = new Sample("T/2", $"    import time\n{UntilIn(3 * scale)}    return 3\n");
            var changed = await Evaluate([s_tasks[2]], [late, late], new EvaluationOptions { FloorSeconds = 2 * scale });
            return (changed.RunAgainAlone, changed.ChangedVerdicts, changed.Outcomes[SandboxOutcome.Passed]) == (2, 2, 2);
        });
    }

    [Fact]
    public async Task A_reference_that_times_out_is_run_again_alone_and_its_samples_wait_for_it()
    {
        NeedSandbox();
        await WithRoom(async scale =>
        {
            // Done at a fixed time of day, later than the first run's limit allows.
            var late = s_tasks[0] with { CanonicalSolution = $"    import time\n{UntilIn(5 * scale)}    return 1\n" };
            var details = TestFiles.Temporary("");
            var summary = await Evaluate(
                [late, s_tasks[1]], [new("T/0", "    return 1\n"), new("T/0", "    return 2\n"), new("T/1", "    return 2\n")],
                new EvaluationOptions { ReferenceSeconds = 3 * scale, DetailsPath = details });
            Assert.Equal([(2, 1), (1, 1)], summary.Tasks.Select(t => (t.Samples, t.Passed)));
            var runs = Runs(details).Where(r => r.Task == "T/0").Select(r => $"{r.Run} {r.Outcome}").ToList();
            Assert.Equal(["sample Failed", "sample Passed"], runs.TakeLast(2).Order());
            return runs.SkipLast(2).SequenceEqual(["reference TimedOut", "reference Passed"]);
        });
    }

    [Fact]
    public async Task A_run_that_goes_on_keeps_the_error_texts_of_what_its_journal_holds()
    {
        NeedSandbox();
        var (details, journal) = (TestFiles.Temporary("of another run\n"), TestFiles.Temporary(""));
        File.Delete(journal);
        var options = new EvaluationOptions { DetailsPath = details, JournalPath = journal, AllowMissing = true };
        var wrong = new Sample("T/0", "    return 7\n");
        await Evaluate(s_tasks, [wrong], options);
        Assert.Contains("AssertionError", RunDetail.Read(details)[("T/0", 0)].Error, StringComparison.Ordinal);

        File.AppendAllText(details, "{\"task_id\": \"T/0\", \"ru");                  // killed while it wrote
        var on = await Evaluate(s_tasks, [wrong, new("T/1", "    return 7\n")], options);
        Assert.Equal(1, on.FromJournal);
        var kept = RunDetail.Read(details);
        Assert.Equal(2, kept.Count);
        Assert.All(kept.Values, d => Assert.Contains("AssertionError", d.Error, StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_reference_time_anchors_the_limit()
    {
        NeedSandbox();
        var slow = s_tasks[0] with { CanonicalSolution = "    import time\n    time.sleep(1)\n    return 1\n" };
        var details = TestFiles.Temporary("");
        var options = new EvaluationOptions { FloorSeconds = 0.1, ReferenceFactor = 4, DetailsPath = details };
        Assert.Equal(1, (await Evaluate([slow], [new("T/0", "    import time\n    time.sleep(1.5)\n    return 1\n")], options)).PassAt1);
        var runs = Runs(details);
        Assert.Equal(["reference", "sample"], runs.Select(r => r.Run));
        Assert.True(runs[0].Wall >= 1, $"{runs[0].Wall} s");
        Assert.Equal(4 * runs[0].Wall, runs[1].Limit, 1e-3);        // the file rounds to 1e-4 s
        var endless = new Sample("T/0", "    import time\n    time.sleep(60)\n    return 1\n");
        Assert.Equal(0, (await Evaluate([slow], [endless], options with { ReferenceFactor = 1 })).PassAt1);
    }

    [Fact]
    public async Task Samples_and_tasks_must_belong_together()
    {
        var stray = await Assert.ThrowsAsync<InvalidInputException>(() => Evaluate(s_tasks, [new("X/1", "")], new EvaluationOptions()));
        Assert.Contains("X/1", stray.Message, StringComparison.Ordinal);
        var missing = await Assert.ThrowsAsync<InvalidInputException>(() => Evaluate(s_tasks, [new("T/0", "")], new EvaluationOptions()));
        Assert.Contains("T/1, T/2", missing.Message, StringComparison.Ordinal);
        NeedSandbox();
        var partial = await Evaluate(s_tasks, [new("T/0", "    return 1\n")], new EvaluationOptions { AllowMissing = true });
        Assert.Equal(1, partial.PassAt1);
        Assert.Single(partial.Tasks);
    }

    /// <summary>On a busy machine a program may start so late that it is done within its limit: more time, then.</summary>
    private static async Task WithRoom(Func<double, Task<bool>> attempt)
    {
        foreach (var scale in (double[])[1, 2, 4, 8])
        {
            if (await attempt(scale))
            {
                return;
            }
        }

        Assert.Fail("no run had the time-out that it should have");
    }

    /// <summary>Python that waits until so many seconds from now.</summary>
    private static string UntilIn(double seconds) =>
        $"    while time.time() < {(DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1e3) + seconds:F3}: time.sleep(0.01)\n";

    private static List<(string Task, string Run, string Outcome, double Wall, double Limit)> Runs(string details) =>
        [.. File.ReadLines(details).Select(line => JsonDocument.Parse(line).RootElement).Select(r => (
            r.GetProperty("task_id").GetString()!, r.GetProperty("run").GetString()!, r.GetProperty("outcome").GetString()!,
            r.GetProperty("wall_seconds").GetDouble(), r.GetProperty("limit_seconds").GetDouble()))];

    private static void NeedSandbox()
    {
        if (s_found.Value.Sandbox is null)
        {
            Assert.Skip(s_found.Value.Message);
        }
    }

    private static Task<EvaluationSummary> Evaluate(IReadOnlyList<HumanEvalTask> tasks, IReadOnlyList<Sample> samples, EvaluationOptions options) =>
        Grader.EvaluateAsync(
            new HumanEvalBenchmark(), [.. tasks.Select(HumanEvalBenchmark.TaskOf)], samples, options with { Sandbox = s_found.Value.Sandbox },
            TestContext.Current.CancellationToken);
}
