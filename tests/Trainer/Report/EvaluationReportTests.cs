using System.Text.Json;
using Xunit;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Report;

namespace Z1Coder.Tests.Trainer.Report;

/// <summary>The page of an evaluation, from files made by hand.</summary>
public sealed class EvaluationReportTests
{
    private const string Score = """
        {"benchmark": "livecodebench", "reference": false, "pass_at_1": 0.3333333333333333, "low": 0.1234567890123, "high": 0.7,
         "tasks": 3, "tasks_present": 4, "tasks_published": 880, "pass_at": {"1": 0.3333333333333333, "5": 0.625}, "outcomes": {"Passed": 1}, "excluded": ["x<1>"],
         "not_runnable": {"y": ["numpy"]}, "run_again_alone": 1, "changed_verdicts": 0, "caveats": ["a part <only>"],
         "kind_scores": [{"kind": "easy", "tasks": 2, "pass_at_1": 0.5, "low": 0.1, "high": 0.9},
                         {"kind": "odd", "tasks": 1, "pass_at_1": 0, "low": 0, "high": 0.8}],
         "published": [{"model": "Z1-Coder-7B", "percent": 20.7, "source": "somewhere", "kinds": {"easy": 60.8}}]}
        """;

    [Fact]
    public void Numbers_are_those_of_the_score_and_counts_those_of_the_verdicts()
    {
        var folder = Pages.Folder();
        Pages.Verdicts(folder, "livecodebench", "t1:+ t2:- t3:-", "TimedOut");
        Pages.Answers(folder, "livecodebench", ("t1", "h", "p", "one"), ("t2", "h", "p", "two"));
        File.WriteAllText(Path.Combine(folder, "livecodebench.score.json"), Score);
        var html = EvaluationReport.Render(folder);
        Pages.IsSafe(html);
        Assert.Equal([0.3333333333333333, 0.1234567890123, 0.7, 20.7], Pages.Numbers(Pages.Row(html, "livecodebench")));
        Assert.Equal([0.5, 0.1, 0.9, 60.8], Pages.Numbers(Pages.Row(html, "– easy")));
        Assert.Equal([0.0, 0, 0.8], Pages.Numbers(Pages.Row(html, "– odd")));
        Assert.Contains("3 of 880", html);
        Assert.Contains("a part &lt;only&gt;", html);
        Assert.Contains("x&lt;1&gt;", html);
        Assert.Contains("y (numpy)", html);
        Assert.Contains("somewhere", html);
        Assert.Contains("pass@5 <data value=\"0.625\">62.5</data>", html);
        Assert.DoesNotContain("Qwen2.5", html);                     // no figure of it: no column of it
        Assert.Contains("<th>Passed</th><th>TimedOut</th><th>all</th>", html);
        Assert.EndsWith("<td>1</td><td>1</td><td>2</td>", Pages.Row(html, "easy"));
        Assert.EndsWith("<td>0</td><td>1</td><td>1</td>", Pages.Row(html, "no group"));
        Assert.EndsWith("<td>1</td><td>2</td><td>3</td>", Pages.Row(html, "all"));
        Assert.Contains("Not solved in every sample: 2", html);
        Assert.Contains("✗ t2 (easy): TimedOut", html);
        Assert.Contains("<summary>Solved: 1</summary>", html);
        Assert.True(html.IndexOf("<tr><td>easy</td>", StringComparison.Ordinal) < html.IndexOf("<tr><td>no group</td>", StringComparison.Ordinal));
    }

    [Fact]
    public void Difficulties_stand_from_easy_to_hard_and_other_groups_after_them_as_they_come() =>
        Assert.Equal(["easy", "medium", "hard", "z", "a"], ((string[])["z", "hard", "a", "easy", "medium"]).OrderBy(KindScore.Rank));

    [Fact]
    public void Answers_are_found_by_their_sample_number_however_the_file_is_ordered()
    {
        var folder = Pages.Folder();
        Pages.Verdicts(folder, "humaneval", "t1:+-+");
        File.WriteAllLines(Path.Combine(folder, "humaneval.answers.jsonl"),
        [
            """{"task_id": "t1", "sample": 2, "completion": "third", "finish": "length"}""",
            """{"task_id": "t1", "sample": 0, "completion": "first", "finish": "end_token"}""",
            """{"task_id": "t1", "sample": 0, "completion": "of an earlier way of asking"}""",
        ]);
        var html = EvaluationReport.Render(folder);
        Assert.Matches("Passed</p><pre>\nfirst</pre><p><small>ended by end_token</small></p><p>Failed</p><p>Passed</p><pre>\nthird</pre>", html);
        Assert.Contains("ended by length", html);
        Assert.DoesNotContain("an earlier way", html);
        File.AppendAllText(Path.Combine(folder, "humaneval.answers.jsonl"), """{"task_id": "t1", "sample": "0", "completion": "x"}""" + "\n");
        var error = Assert.Throws<InvalidInputException>(() => EvaluationReport.Render(folder));
        Assert.Contains("humaneval.answers.jsonl:4", error.Message);
    }

    [Fact]
    public void Half_a_last_line_of_a_killed_run_is_left_out_and_half_a_line_before_it_is_an_error()
    {
        var folder = Pages.Folder();
        Pages.Verdicts(folder, "humaneval", "t1:- t2:-");
        var answers = Path.Combine(folder, "humaneval.answers.jsonl");
        File.WriteAllText(answers, "{\"task_id\": \"t1\", \"completion\": \"first\"}\n{\"task_id\": \"t2\", \"compl");
        var detail = """{"task_id": "t1", "run": "sample", "sample": 0, "outcome": "Failed", "limit_seconds": 4, "wall_seconds": 1, "stderr": "why"}""";
        File.WriteAllText(Path.Combine(folder, "humaneval.details.jsonl"), detail + "\n" + detail[..40]);
        var html = EvaluationReport.Render(folder);
        Assert.Contains("<pre>\nfirst</pre>", html);
        Assert.Contains("<pre>\nwhy</pre>", html);

        // A whole line counts without its line feed; half a line that has one was not cut by a kill.
        File.WriteAllText(Path.Combine(folder, "humaneval.details.jsonl"), detail);
        Assert.Contains("<pre>\nwhy</pre>", EvaluationReport.Render(folder));
        File.AppendAllText(answers, "\n");
        Assert.Contains("humaneval.answers.jsonl:2", Assert.Throws<InvalidInputException>(() => EvaluationReport.Render(folder)).Message);
    }

    [Fact]
    public void Verdicts_alone_are_enough_and_error_texts_are_shown_beside_their_own_verdict_only()
    {
        var folder = Pages.Folder();
        Pages.Verdicts(folder, "humaneval", "t1:- t2:- t3:-+--- t4:+");
        Pages.IsSafe(EvaluationReport.Render(folder));
        object Detail(string task, int sample, string run, string outcome, string stderr) =>
            new { task_id = task, run, sample, outcome, exit_code = 1, limit_seconds = 4.0, wall_seconds = 0.25, stderr };
        File.WriteAllLines(Path.Combine(folder, "humaneval.details.jsonl"), ((object[])[
            Detail("t1", 0, "reference", "Failed", "of the reference"), Detail("t1", 0, "sample", "TimedOut", "of the first try"),
            Detail("t1", 0, "alone", "Failed", "line one\nAssertionError: " + Pages.Hostile),
            Detail("t2", 0, "sample", "Crashed", "of another program"),
            Detail("t3", 4, "sample", "Failed", "of a sample that is not shown"),
        ]).Select(d => JsonSerializer.Serialize(d)));
        var html = EvaluationReport.Render(folder);
        Pages.IsSafe(html);
        Assert.Contains("AssertionError: &lt;/pre&gt;", html);
        Assert.Contains("0.25 s of 4 s", html);
        Assert.DoesNotContain("of the reference", html);
        Assert.DoesNotContain("of the first try", html);
        Assert.DoesNotContain("of another program", html);
        Assert.Contains("✗ t2: Failed</summary><p><small>graded in an earlier run", html);
        Assert.Contains("✗ t3: Failed, 1 of 5 samples pass", html);
        Assert.DoesNotContain("of a sample that is not shown", html);
        Assert.Contains("and 2 more samples", html);
    }

    [Fact]
    public void Nothing_in_prompts_answers_names_and_outcomes_is_markup()
    {
        var folder = Path.Combine(Pages.Folder(), "a<b>");
        const string name = "<i>bench";
        Pages.Verdicts(folder, name, "<b>t1</b>:-", Pages.Hostile);
        Pages.Answers(folder, name, ("<b>t1</b>", "h", Pages.Hostile, Pages.Hostile));
        File.WriteAllText(Path.Combine(folder, name + ".score.json"), Score.Replace("somewhere", "<script>").Replace("easy", "<script>"));
        var html = EvaluationReport.Render(folder);
        Pages.IsSafe(html);
        Assert.Contains("&lt;img src=x", html);
    }

    [Fact]
    public void A_folder_that_is_no_evaluation_and_files_that_are_not_what_they_are_called_are_one_sentence()
    {
        var folder = Pages.Folder();
        foreach (var none in (string[])[folder, Path.Combine(folder, "none")])
        {
            Assert.Contains("is no evaluation", Assert.Throws<InvalidInputException>(() => EvaluationReport.Render(none)).Message);
        }

        Z1Here.Run("report", folder).FailedWith("not a run");
        Pages.Verdicts(folder, "humaneval", "t1:+");
        Assert.Equal(Path.Combine(folder, "report.html") + "\n", Z1Here.Run("report", folder).Succeeded().Output);
        Pages.IsSafe(File.ReadAllText(Path.Combine(folder, "report.html")));
        const string wrong = """{"task_id": "t1", "run": "sample", "sample": "0", "outcome": "Failed"}""";
        File.WriteAllText(Path.Combine(folder, "humaneval.details.jsonl"), wrong);
        Z1Here.Run("report", folder).FailedWith("humaneval.details.jsonl:1", "\"sample\"");
        File.WriteAllText(Path.Combine(folder, "humaneval.score.json"), "<html>");
        Z1Here.Run("report", folder).FailedWith("humaneval.score.json is not a score");
    }
}
