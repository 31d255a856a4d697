using Xunit;
using Z1Coder.Tests.Trainer.Cli;
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
    public void Bad_input_is_one_sentence()
    {
        var folder = TinyBenchmarks.Folder("mbpp.jsonl");
        string[] score = ["eval", "score", "--benchmark", "mbpp", "--data", folder, "--samples"];
        var unknown = Z1Here.Run("eval", "score", "--benchmark", "humanevil", "--data", folder, "--reference");
        unknown.FailedWith("livecodebench");
        Z1Here.Run([.. score, TestFiles.Temporary("""{"task_id": 4, "solution": ""}""")]).FailedWith("file.jsonl:1");
        Z1Here.Run([.. score, TestFiles.Temporary("""{"task_id": 11, "solution": ""}""")]).FailedWith("601");
        Z1Here.Run([.. score, Path.Combine(folder, "none.jsonl")]).FailedWith("none.jsonl");
        Z1Here.Run("eval", "score", "--benchmark", "mbpp+", "--data", folder, "--reference").FailedWith("MbppPlus-v");
        Z1Here.Run("eval", "score", "--data", Path.Combine(folder, "nowhere"), "--reference").FailedWith("nowhere");
        Z1Here.Run("eval", "score", "--data", folder, "--reference", "--from", "May").FailedWith("--from");
        Z1Here.Run("eval", "score", "--data", folder).WasMisused("one of the two");
        Z1Here.Run("eval", "score", "--reference").WasMisused("one of the two");
        Z1Here.Run("eval", "score", "--reference", "--tasks", "x").WasMisused("one --benchmark");
        Z1Here.Run("eval", "compare", folder, folder).FailedWith("no results");
        var list = Z1Here.Run("eval", "list");
        list.Succeeded();
        Assert.All(Benchmark.All, b => Assert.Contains(b.Name, list.Output, StringComparison.Ordinal));
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
