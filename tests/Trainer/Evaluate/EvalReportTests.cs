using System.Text.Json;
using Spectre.Console;
using Xunit;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Tests.Trainer.Report;
using Z1Coder.Trainer.Cli;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>What z1 eval score leaves and shows: answers, score, page, table; and a comparison of two such runs.</summary>
[Collection("sandbox")]
public sealed class EvalReportTests
{
    private const string Right = "class Solution:\n  def total(self, xs, k):\n    return [sum(xs) * k, 1]";

    [Fact]
    public void A_graded_run_leaves_a_page_whose_numbers_are_those_of_the_json()
    {
        NeedSandbox();
        var folder = TinyBenchmarks.Folder("livecodebench_problems.jsonl");
        string[] runs = [Path.Combine(folder, "a"), Path.Combine(folder, "b")];
        var wrong = Answers("raise ValueError('</pre><script>')", Right);
        var first = Score(folder, runs[0], wrong, "--json").Json().GetProperty("benchmarks")[0];
        Score(folder, runs[1], Answers("print(int(input()) ** 2)", Right)).Succeeded();
        Assert.Equal((2, 1), (I(first, "tasks_present"), I(first, "solved")));
        Assert.Equal(JsonValueKind.Null, first.GetProperty("tasks_published").ValueKind);
        Assert.Contains("1 of the 2 tasks in the data are outside that window", first.GetProperty("caveats").EnumerateArray().Select(c => c.GetString()));
        Assert.Equal(4, first.GetProperty("published").GetArrayLength());

        var html = File.ReadAllText(Path.Combine(runs[0], "report.html"));
        Pages.IsSafe(html);
        Assert.Equal(
            [D(first, "pass_at_1"), D(first, "low"), D(first, "high"), 11.3, 8.7, 20.7, 18.4], Pages.Numbers(Pages.Row(html, "livecodebench")));
        var hard = first.GetProperty("kind_scores").EnumerateArray().Single(k => k.GetProperty("kind").GetString() == "hard");
        Assert.Equal([1, D(hard, "low"), D(hard, "high"), 0, 0, 0, 0], Pages.Numbers(Pages.Row(html, "– hard")));
        var easy = first.GetProperty("kind_scores")[0];
        Assert.Equal([0, D(easy, "low"), D(easy, "high"), 37.3, 24.6, 60.8, 60.4], Pages.Numbers(Pages.Row(html, "– easy")));
        Assert.Contains("✗ 1_A (easy): Failed <small>ValueError: &lt;/pre&gt;&lt;script&gt;</small>", html);
        Assert.Contains("outside that window", html);
        using (var saved = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(runs[0], "livecodebench.score.json"))))
        {
            Assert.Equal(D(first, "high"), D(saved.RootElement, "high"));
        }

        var compared = Path.Combine(folder, "compare.html");
        var json = Z1Here.Run("eval", "compare", runs[0], runs[1], "--json", "--html", compared).Json().GetProperty("comparisons")[0];
        Assert.Equal((1, 0, 1, 0), (I(json, "both"), I(json, "only_a"), I(json, "only_b"), I(json, "neither")));
        var page = File.ReadAllText(compared);
        Pages.IsSafe(page);
        Assert.Contains("raise ValueError(&#39;&lt;/pre&gt;&lt;script&gt;&#39;)", page);
        Assert.Contains("print(int(input()) ** 2)", page);

        // The same answers, other tests: the runs say so themselves.
        var file = Path.Combine(folder, "livecodebench_problems.jsonl");
        File.WriteAllText(file, File.ReadAllText(file).Replace("[9, 1]", "[9, 2]", StringComparison.Ordinal));
        Score(folder, Path.Combine(folder, "other"), Answers("print(1)", Right)).Succeeded();
        Z1Here.Run("eval", "compare", runs[0], Path.Combine(folder, "other")).FailedWith("different tests in 1 of 2 tasks", "\"abc\"");
    }

    [Fact]
    public void A_page_needs_no_folder_and_a_second_run_leaves_the_same_answers()
    {
        NeedSandbox();
        var folder = TinyBenchmarks.Folder("mbpp.jsonl");
        var page = Path.Combine(folder, "page.html");
        var text = Z1Here.Run("eval", "score", "--benchmark", "mbpp", "--data", folder, "--reference", "--html", page).Succeeded().Output;
        Assert.Contains("mbpp", text);
        var html = File.ReadAllText(page);
        Assert.Contains("own reference solutions", html);
        Assert.Contains("No figures are published", html);
        Assert.Contains("<summary>Solved: 2</summary>", html);
        Assert.Equal(2, Directory.GetFiles(folder).Length);
        foreach (var run in (string[])["a", "b"])
        {
            Z1Here.Run("eval", "score", "--benchmark", "mbpp", "--data", folder, "--reference", "--out", Path.Combine(folder, run)).Succeeded();
        }

        Assert.Equal(
            File.ReadAllBytes(Path.Combine(folder, "a", "mbpp.answers.jsonl")), File.ReadAllBytes(Path.Combine(folder, "b", "mbpp.answers.jsonl")));
    }

    [Fact]
    public async Task The_table_of_a_terminal_and_the_lines_of_a_file_hold_the_same_figures()
    {
        NeedSandbox();
        var benchmark = Benchmark.Find("humaneval-pro");
        var tasks = benchmark.Read([Path.Combine(TinyBenchmarks.Folder("humaneval_pro.json"), "humaneval_pro.json")]);
        using var sandbox = Sandbox.Create();
        var options = new EvaluationOptions
        {
            Sandbox = sandbox, Limits = benchmark.Limits, FloorSeconds = benchmark.FloorSeconds, Reference = ReferenceCheck.Exclude,
        };
        Sample[] wrong = [new(tasks[0].TaskId, "x = ", CompletionMode.Program)];
        var score = await BenchmarkScore.OfAsync(benchmark, tasks, wrong, options, TestContext.Current.CancellationToken);
        var lines = EvalScoreView.Lines(score, heading: true).ToList();
        Assert.Equal("humaneval-pro                    0.0      [0.0, 79.3]    1 of 164   51.2, 33.5, 69.5, 65.9", lines[1]);
        Assert.Equal("  the data hold 1 tasks of 164: the comparison is on a part of the benchmark", lines[2]);
        Assert.Contains("offset of a few points", lines[3]);

        using var text = new StringWriter();
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = AnsiSupport.No, Interactive = InteractionSupport.No, Out = new AnsiConsoleOutput(text),
        });
        console.Profile.Width = 200;
        console.Write(EvalScoreView.Table([score]));
        var row = text.ToString().Split('\n').Single(l => l.Contains("humaneval-pro")).Split('│', StringSplitOptions.TrimEntries);
        Assert.Equal(["humaneval-pro", "0.0", "[0.0, 79.3]", "1 of 164", "51.2", "33.5", "69.5", "65.9"], row[1..^1]);
    }

    private static Z1Result Score(string folder, string output, string answers, params string[] more) => Z1Here.Run(
        ["eval", "score", "--benchmark", "livecodebench", "--data", folder, "--samples", answers, "--out", output, .. more]);

    private static string Answers(string script, string method) => TestFiles.Temporary(
        JsonSerializer.Serialize(new (string Id, string Code)[] { ("1_A", script), ("abc", method) }
            .Select(a => new { question_id = a.Id, code_list = (string[])[a.Code] })), ".json");

    private static int I(JsonElement element, string name) => element.GetProperty(name).GetInt32();

    private static double D(JsonElement element, string name) => element.GetProperty(name).GetDouble();

    private static void NeedSandbox()
    {
        if (Sandbox.Probe() is { Works: false } probe)
        {
            Assert.Skip(probe.Message);
        }
    }
}
