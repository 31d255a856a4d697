using System.Text.Json;
using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Tests.Trainer.Cli;

namespace Z1Coder.Tests.Trainer.Report;

/// <summary>z1 eval compare A B --html: its numbers, its escaping, and what it refuses.</summary>
public sealed class ComparisonReportTests
{
    // By hand: 2 both, 1 only A, 5 only B, 1 neither; p = 2 (C(6,0) + C(6,1)) / 2^6 = 14 / 64.
    private const string First = "t1:+ t2:+ t3:+ t4:- t5:- t6:- t7:- t8:- t9:- onlyhere:+";
    private const string Second = "t9:- t8:+ t7:+ t6:+ t5:+ t4:+ t3:- t2:+ t1:+ onlythere:-";

    [Fact]
    public void The_page_says_what_the_json_says_and_what_a_hand_computed()
    {
        var (a, b) = (Pages.Folder(), Pages.Folder());
        Pages.Verdicts(a, "humaneval", First, "TimedOut");
        Pages.Verdicts(b, "humaneval", Second);
        Pages.Verdicts(a, "mbpp", "x:++ y:+- z:--");
        Pages.Verdicts(b, "mbpp", "x:++ y:++ z:+-");
        Pages.Verdicts(b, "mbpp-pro", "x:+");
        var (json, html) = Compare(a, b);
        Assert.Equal(2, json.GetProperty("comparisons").GetArrayLength());
        var c = json.GetProperty("comparisons")[0];
        Assert.Equal((2, 1, 5, 1, 9), (I(c, "both"), I(c, "only_a"), I(c, "only_b"), I(c, "neither"), I(c, "tasks")));
        Assert.Equal(14 / 64.0, c.GetProperty("p").GetDouble(), 14);
        Assert.Equal(3 / 9.0, c.GetProperty("a").GetDouble(), 14);
        Assert.Equal(7 / 9.0, c.GetProperty("b").GetDouble(), 14);
        Assert.Equal(["onlyhere", "onlythere"], c.GetProperty("unpaired_tasks").EnumerateArray().Select(t => t.GetString()));
        Assert.Contains("2 tasks are in one run alone and do not count: onlyhere, onlythere", html);
        Assert.Equal("mbpp-pro", json.GetProperty("alone")[0].GetProperty("benchmark").GetString());
        Assert.Contains("mbpp-pro is in", html);
        foreach (var comparison in json.GetProperty("comparisons").EnumerateArray())
        {
            var row = Pages.Row(html, comparison.GetProperty("benchmark").GetString()!);
            var (share, other) = (D(comparison, "a"), D(comparison, "b"));
            Assert.Equal([share, other, other - share, D(comparison, "low"), D(comparison, "high"), D(comparison, "p")], Pages.Numbers(row));
            Assert.Contains($"<td>{I(comparison, "only_a")}</td><td>{I(comparison, "only_b")}</td>", row);
        }

        var tables = Regex.Matches(html, "<table class=\"mcnemar\">.*?</table>").Select(m => Pages.Numbers(m.Value)).ToList();
        Assert.Equal([2.0, 1, 5, 1], tables[0]);
        Assert.Equal([1.0, 0, 2, 0], tables[1]);
        Assert.Contains("t4: A TimedOut, B Passed", html);
        Assert.Contains("t3: A Passed, B Failed", html);
        Assert.Contains("Only A: 1", html);
        Assert.Contains("Only B: 5", html);
        Assert.Contains("<summary>Both: 2</summary>", html);
        Assert.Contains("<summary>Neither: 1</summary>", html);
        Assert.Contains("keeps no answers", html);
        Pages.IsSafe(html);
    }

    [Fact]
    public void Answers_stand_side_by_side_and_nothing_in_them_is_markup()
    {
        var (a, b) = (Path.Combine(Pages.Folder(), "<i>run"), Pages.Folder());
        var name = "<u>" + "bench";
        Pages.Verdicts(a, name, "</summary><script>1</script>:+ other:-", "<script>outcome</script>");
        Pages.Verdicts(b, name, "</summary><script>1</script>:- other:-", "<script>outcome</script>");
        Pages.Answers(a, name, ("</summary><script>1</script>", "h", "\nprompt of " + Pages.Hostile, "first\u0001 " + Pages.Hostile));
        var longer = "second " + Pages.Hostile + new string('é', 30_000) + "the end";
        Pages.Answers(b, name, ("</summary><script>1</script>", "h", "prompt of " + Pages.Hostile, longer));
        var (_, html) = Compare(a, b);
        Pages.IsSafe(html);
        Assert.True(html.IndexOf("first", StringComparison.Ordinal) < html.IndexOf("second", StringComparison.Ordinal));
        Assert.Contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;", html);
        Assert.Contains("<pre class=\"q\">\n\nprompt of", html);
        Assert.Contains("characters are left out", html);
        Assert.Contains("the end</pre>", html);
        Assert.InRange(html.Length, 1000, 200_000);
    }

    [Fact]
    public void What_is_no_run_or_was_graded_otherwise_is_one_sentence()
    {
        var (a, b, none) = (Pages.Folder(), Pages.Folder(), Pages.Folder());
        var first = Pages.Verdicts(a, "humaneval", "t1:+ t2:-");
        var second = Pages.Verdicts(b, "humaneval", "t1:+ t2:-");
        string[] Verb(string x, string y) => ["eval", "compare", x, y, "--html", Path.Combine(none, "page.html")];
        Z1Here.Run(Verb(a, none)).FailedWith(none, "is no run of z1 eval");
        Z1Here.Run(Verb(Path.Combine(none, "nowhere"), b)).FailedWith("nowhere", "cannot be read");
        Z1Here.Run("eval", "compare", a).WasMisused("Required argument missing");

        var other = Path.Combine(none, "other");
        var plus = Pages.Verdicts(other, "humaneval+", "t1:+ t2:-");
        Z1Here.Run(Verb(a, other)).FailedWith("holds humaneval,", "holds humaneval+;", "no benchmark in common");
        Z1Here.Run(Verb(first, plus)).FailedWith("no benchmark in common");
        Z1Here.Run(Verb(a, plus)).FailedWith("no benchmark in common");
        Pages.Verdicts(Path.Combine(none, "strangers"), "humaneval", "s1:+");
        Z1Here.Run(Verb(a, Path.Combine(none, "strangers"))).FailedWith("no task in common");

        // A file under another name says nothing about its benchmark.
        File.Copy(second, Path.Combine(none, "results.jsonl"));
        var compared = Z1Here.Run([.. Verb(first, Path.Combine(none, "results.jsonl")), "--json"]).Json().GetProperty("comparisons")[0];
        Assert.Equal("humaneval", compared.GetProperty("benchmark").GetString());
        File.Delete(Path.Combine(none, "page.html"));

        File.WriteAllText(Path.Combine(a, "humaneval.score.json"), """{"limits": {"floor_seconds": 4, "reference_factor": 4}}""");
        File.WriteAllText(Path.Combine(b, "humaneval.score.json"), """{"limits": {"floor_seconds": 8, "reference_factor": 4}}""");
        Z1Here.Run(Verb(a, b)).FailedWith("different limits", "floor_seconds is 4 in the first and 8 in the second");
        File.WriteAllText(Path.Combine(b, "humaneval.score.json"), "[1]");
        Z1Here.Run(Verb(a, b)).FailedWith("humaneval.score.json is not a score");
        File.WriteAllText(Path.Combine(b, "humaneval.score.json"), "{");
        Z1Here.Run(Verb(a, b)).FailedWith("humaneval.score.json is not a score");
        File.Delete(Path.Combine(b, "humaneval.score.json"));

        Pages.Answers(a, "humaneval", ("t1", "aaaa", "p", "x"), ("t2", "bbbb", "p", "x"));
        Pages.Answers(b, "humaneval", ("t1", "aaaa", "p", "y"), ("t2", "cccc", "p", "y"));
        Z1Here.Run(Verb(a, b)).FailedWith("different tests in 1 of 2 tasks", "\"t2\"");
        File.AppendAllText(Path.Combine(b, "humaneval.answers.jsonl"), "{\"task_id\": 1}\n");
        Z1Here.Run(Verb(a, b)).FailedWith("humaneval.answers.jsonl:3", "task_id");
        Assert.False(File.Exists(Path.Combine(none, "page.html")), "a refused comparison wrote a page");
    }

    private static (JsonElement Json, string Html) Compare(string a, string b)
    {
        var page = Path.Combine(Pages.Folder(), "page.html");
        var json = Z1Here.Run("eval", "compare", a, b, "--html", page, "--json").Json();
        return (json, File.ReadAllText(page));
    }

    private static int I(JsonElement element, string name) => element.GetProperty(name).GetInt32();

    private static double D(JsonElement element, string name) => element.GetProperty(name).GetDouble();
}
