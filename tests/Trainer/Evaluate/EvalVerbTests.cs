using Xunit;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Trainer.Cli;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>z1 eval score, compare and list as a user meets them.</summary>
[Collection("sandbox")]
public sealed class EvalVerbTests
{
    [Fact]
    public void References_of_a_folder_pass_and_the_figures_stand_beside_the_published_ones()
    {
        NeedSandbox();
        var folder = TinyBenchmarks.Folder("humaneval_pro.json", "mbpp.jsonl", "bigcodebench_hard.json");
        var text = Z1Here.Run("eval", "score", "--data", folder, "--reference");
        text.Succeeded();
        Assert.Contains("51.2, 33.5, 69.5, 65.9", text.Output, StringComparison.Ordinal);
        Assert.Contains("not runnable here (needs no_such_package_of_z1, no_such_package_of_z1_either)", text.Output, StringComparison.Ordinal);
        var json = Z1Here.Run("eval", "score", "--data", folder, "--reference", "--json").Json().GetProperty("benchmarks");
        Assert.Equal(["mbpp", "humaneval-pro", "bigcodebench-hard-complete", "bigcodebench-hard-instruct"], json.EnumerateArray().Select(b => b.GetProperty("benchmark").GetString()));
        Assert.All(json.EnumerateArray(), b => Assert.Equal(1, b.GetProperty("pass_at_1").GetDouble()));
        Assert.Equal(2, json[2].GetProperty("not_runnable").EnumerateObject().Count());
    }

    [Fact]
    public void A_reference_that_fails_is_named_and_the_exit_code_is_1()
    {
        NeedSandbox();
        var file = TestFiles.Temporary(TinyBenchmarks.Files["mbpp.jsonl"].Replace("a \\u002B b", "a - b", StringComparison.Ordinal));
        var result = Z1Here.Run("eval", "score", "--benchmark", "mbpp", "--tasks", file, "--reference");
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("1 reference solutions fail: 11", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Answers_are_scored_twice_with_equal_bytes_and_compared()
    {
        NeedSandbox();
        var folder = TinyBenchmarks.Folder("livecodebench_problems.jsonl");
        string[] answers =
        [
            """[{"question_id": "1_A", "code_list": ["print(int(input()) ** 2)", "print(1)"]}, {"question_id": "abc", "code_list": ["class Solution:\n  def total(self, xs, k):\n    return [sum(xs) * k, 1]", "x"]}]""",
            """[{"question_id": "1_A", "code_list": ["print(1)", "print(2)"]}, {"question_id": "abc", "code_list": ["class Solution:\n  def total(self, xs, k):\n    return [sum(xs) * k, 1]", "x"]}]""",
        ];
        foreach (var (answer, i) in answers.Select((a, i) => (a, i)))
        {
            string[] score = ["eval", "score", "--benchmark", "livecodebench", "--data", folder, "--samples", TestFiles.Temporary(answer, ".json"), "--k", "1", "--k", "2", "--json"];
            var first = Z1Here.Run([.. score, "--out", Path.Combine(folder, $"run{i}")]).Json().GetProperty("benchmarks")[0];
            Assert.Equal(i == 0 ? 0.5 : 0.25, first.GetProperty("pass_at_1").GetDouble(), 12);
            Assert.Equal(i == 0 ? 1 : 0.5, first.GetProperty("pass_at").GetProperty("2").GetDouble(), 12);
            Assert.Equal(0.5, first.GetProperty("kinds").GetProperty("hard").GetDouble(), 12);
            var other = Z1Here.Run([.. score, "--out", Path.Combine(folder, "again"), "--workers", "1"]).Json().GetProperty("benchmarks")[0];
            Assert.Equal(0, other.GetProperty("from_journal").GetInt32());
            Assert.Equal(File.ReadAllBytes(Results(folder, $"run{i}")), File.ReadAllBytes(Results(folder, "again")));
            Directory.Delete(Path.Combine(folder, "again"), recursive: true);
            Assert.Equal(4, Z1Here.Run([.. score, "--out", Path.Combine(folder, $"run{i}")]).Json().GetProperty("benchmarks")[0].GetProperty("from_journal").GetInt32());
        }

        // The problems in two files, as each release adds one.
        var rows = TinyBenchmarks.Files["livecodebench_problems.jsonl"].Split('\n');
        var files = Z1Here.Run(
            "eval", "score", "--benchmark", "livecodebench", "--tasks", TestFiles.Temporary(rows[0]), TestFiles.Temporary(rows[1]), "--samples",
            TestFiles.Temporary(answers[0], ".json"), "--json");
        Assert.Equal(2, files.Json().GetProperty("benchmarks")[0].GetProperty("tasks").GetInt32());
        var window = Z1Here.Run(
            "eval", "score", "--benchmark", "livecodebench", "--data", folder, "--samples", TestFiles.Temporary(answers[0], ".json"), "--from", "2024-08-01", "--to", "2024-11-01", "--json");
        Assert.Equal(1, window.Json().GetProperty("benchmarks")[0].GetProperty("tasks").GetInt32());
        var compared = Z1Here.Run("eval", "compare", Path.Combine(folder, "run0"), Path.Combine(folder, "run1"), "--json").Json().GetProperty("comparisons")[0];
        Assert.Equal((1, 0, 1.0), (compared.GetProperty("only_a").GetInt32(), compared.GetProperty("only_b").GetInt32(), compared.GetProperty("p").GetDouble()));
        var plain = Z1Here.Run("eval", "compare", Results(folder, "run0"), Results(folder, "run1"));
        plain.Succeeded();
        Assert.Contains("- 1_A: Failed -> Failed (50.0 % -> 0.0 %)", plain.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_window_of_dates_is_for_benchmarks_whose_tasks_have_dates()
    {
        NeedSandbox();
        var folder = TinyBenchmarks.Folder("mbpp.jsonl", "livecodebench_problems.jsonl");
        string[] score = ["eval", "score", "--reference", "--data", folder, "--json", "--from"];
        var json = Z1Here.Run([.. score, "2024-08-01", "--to", "2024-11-01"]).Json().GetProperty("benchmarks");
        Assert.Equal([("mbpp", 2), ("livecodebench", 1)], json.EnumerateArray().Select(b => (b.GetProperty("benchmark").GetString()!, b.GetProperty("tasks_present").GetInt32())));
        Z1Here.Run([.. score, "2030-01-01"]).FailedWith("livecodebench: no task is in the window", "the 2 in the data are of 2024-08-15 to 2024-12-01");
        Z1Here.Run([.. score, "2024-08-01", "--benchmark", "mbpp"]).FailedWith("no task of mbpp has one");
        var chosen = EvalData.Choose(["mbpp", "livecodebench"], folder, "2024-08-01", "2024-11-01", TextWriter.Null);
        Assert.Equal([2, 1], chosen.Select(c => c.Tasks.Count));
        Assert.Contains("no task of mbpp has one", Assert.Throws<InvalidInputException>(() => EvalData.Choose(["mbpp"], folder, null, "2024-11-01", TextWriter.Null)).Message);
    }

    [Fact]
    public void The_answers_that_a_model_made_are_not_written_over()
    {
        var folder = TinyBenchmarks.Folder("mbpp.jsonl");
        var answers = Path.Combine(folder, "mbpp.answers.jsonl");
        File.WriteAllText(answers, "{\"key\":\"0123\"}\n");
        Z1Here.Run("eval", "score", "--reference", "--data", folder, "--out", folder).FailedWith(answers, "z1 eval made", "name another --out");
        Assert.Equal("{\"key\":\"0123\"}\n", File.ReadAllText(answers));
        Assert.Equal(2, Directory.GetFiles(folder).Length);
    }

    [Fact]
    public void Stopped_by_a_signal_it_keeps_its_verdicts()
    {
        NeedSandbox();
        var folder = TinyBenchmarks.Folder("mbpp.jsonl");
        var samples = TestFiles.Temporary("""{"task_id": 11, "solution": "def add(a, b): return a + b"}""" + "\n" + """{"task_id": 601, "solution": "while True: pass"}""");
        string[] score = ["eval", "score", "--benchmark", "mbpp", "--data", folder, "--samples", samples];
        var journal = Path.Combine(folder, "out", "mbpp.journal.jsonl");
        using var z1 = Z1.Start([.. score, "--out", Path.Combine(folder, "out"), "--floor-seconds", "60"]);
        Assert.True(SpinWait.SpinUntil(() => z1.HasExited || (File.Exists(journal) && File.ReadAllText(journal).Contains("Passed")), TimeSpan.FromSeconds(60)));
        z1.Terminate();
        Assert.Contains("stopped by SIGTERM; finished verdicts are kept", z1.Wait().Succeeded().Output);
        Assert.Contains("Passed", File.ReadAllText(journal));
    }

    [Fact]
    public void Bad_input_is_one_sentence()
    {
        var folder = TinyBenchmarks.Folder("mbpp.jsonl");
        string[] score = ["eval", "score", "--benchmark", "mbpp", "--data", folder, "--samples"];
        Z1Here.Run("eval", "score", "--benchmark", "humanevil", "--data", folder, "--reference").WasMisused("\"humanevil\"", "livecodebench");
        Z1Here.Run("eval", "score", "--benchmark", "mbpp", "MBPP", "--data", folder, "--reference").WasMisused("stands twice");
        Z1Here.Run([.. score, TestFiles.Temporary("""{"task_id": 4, "solution": ""}""")]).FailedWith("file.jsonl:1");
        Z1Here.Run([.. score, TestFiles.Temporary("""{"task_id": 11, "solution": ""}""")]).FailedWith("601");
        Z1Here.Run([.. score, Path.Combine(folder, "none.jsonl")]).FailedWith("none.jsonl");
        Z1Here.Run("eval", "score", "--benchmark", "mbpp+", "--data", folder, "--reference").FailedWith("MbppPlus-v");
        Z1Here.Run("eval", "score", "--data", Path.Combine(folder, "nowhere"), "--reference").FailedWith("nowhere");
        Z1Here.Run("eval", "score", "--data", folder, "--reference", "--from", "May").WasMisused("--from is \"May\"; it must be a day such as 2024-08-01");
        Z1Here.Run("eval", "score", "--data", folder).WasMisused("one of the two");
        Z1Here.Run("eval", "score", "--reference").WasMisused("one of the two");
        Z1Here.Run("eval", "score", "--reference", "--tasks", "x").WasMisused("one --benchmark");
        Z1Here.Run("eval", "compare", folder, folder).FailedWith("no results");
        var list = Z1Here.Run("eval", "list");
        list.Succeeded();
        Assert.All(Benchmark.All, b => Assert.Contains(b.Name, list.Output, StringComparison.Ordinal));
        var listed = Z1Here.Run("eval", "list", "--json").Json().GetProperty("benchmarks");
        Assert.Equal(Benchmark.All.Select(b => b.Name), listed.EnumerateArray().Select(b => b.GetProperty("benchmark").GetString()));
        Assert.Equal("test6.jsonl", listed[listed.GetArrayLength() - 1].GetProperty("files")[1][5].GetString());
        Assert.Contains("z1 eval --out", Z1Here.Run("eval", "compare", "--help").Succeeded().Output, StringComparison.Ordinal);
    }

    private static string Results(string folder, string run) => Path.Combine(folder, run, "livecodebench.results.jsonl");

    private static void NeedSandbox()
    {
        if (Sandbox.Probe() is { Works: false } probe)
        {
            Assert.Skip(probe.Message);
        }
    }
}
