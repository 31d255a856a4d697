using System.Globalization;
using System.Text;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;
using static Z1Coder.Trainer.Report.HtmlPage;

namespace Z1Coder.Trainer.Report;

/// <summary>
/// Two evaluation runs as one page: difference and its interval, McNemar's table and p, and every task by who solves it, with the answers of both side by
/// side where they differ.
/// </summary>
public static class ComparisonReport
{
    private const int SamplesShown = 3;

    /// <summary>Gives the page's text.</summary>
    /// <param name="a">what the first run is called</param>
    /// <param name="b">what the second run is called</param>
    /// <param name="benchmarks">what they have in common</param>
    /// <param name="alone">benchmarks that one run alone has, with its name</param>
    public static string Render(
        string a, string b, IReadOnlyList<BenchmarkComparison> benchmarks, IReadOnlyList<(string Benchmark, string Run)> alone)
    {
        var html = new StringBuilder(Begin("z1 eval compare", "Two evaluation runs"));
        html.Append($"<div class=\"w\"><table><tr><th>A</th><td>{Html(a)}</td></tr><tr><th>B</th><td>{Html(b)}</td></tr></table></div>");
        foreach (var (benchmark, run) in alone)
        {
            html.Append($"<p>{Html(benchmark)} is in {Html(run)} alone and is not compared.</p>");
        }

        Summary(html, benchmarks);
        foreach (var benchmark in benchmarks)
        {
            One(html, benchmark);
        }

        return html.Append(End).ToString();
    }

    private static void Summary(StringBuilder html, IReadOnlyList<BenchmarkComparison> benchmarks)
    {
        html.Append("<h2>Summary</h2><div class=\"w\"><table><tr><th>benchmark</th><th>tasks</th><th>A, %</th><th>B, %</th><th>B − A, points</th><th>95 % interval</th>");
        html.Append("<th>only A</th><th>only B</th><th>p</th></tr>");
        foreach (var benchmark in benchmarks)
        {
            var c = benchmark.Comparison;
            html.Append($"<tr><td>{Html(Name(benchmark))}</td><td>{c.Tasks}</td><td>{Percent(c.A)}</td><td>{Percent(c.B)}</td><td>{Points(c.B - c.A)}</td>");
            html.Append($"<td>[{Points(c.Interval.Low)}, {Points(c.Interval.High)}]</td><td>{c.OnlyA}</td><td>{c.OnlyB}</td><td>{P(c)}</td></tr>");
        }

        html.Append("</table></div><p><small>pass@1 on the tasks that both runs graded. The interval of the difference is a seeded bootstrap over tasks; p is McNemar's "
            + "exact test, two-sided: the chance of a split of the differing tasks at least this uneven when each is equally likely to fall to either run.</small></p>");
    }

    private static void One(StringBuilder html, BenchmarkComparison benchmark)
    {
        var c = benchmark.Comparison;
        var several = c.Paired.Any(t => t.A is not (0 or 1) || t.B is not (0 or 1));
        html.Append($"<h2>{Html(Name(benchmark))}</h2><div class=\"w\"><table class=\"mcnemar\"><tr><th></th><th>B solves</th><th>B does not</th></tr>");
        html.Append($"<tr><th>A solves</th><td>{Count("both", c.Both)}</td><td>{Count("only-a", c.OnlyA)}</td></tr>");
        html.Append($"<tr><th>A does not</th><td>{Count("only-b", c.OnlyB)}</td><td>{Count("neither", c.Neither)}</td></tr></table></div>");
        html.Append($"<p>McNemar's exact p = {P(c)}</p>{Bar(c)}");
        if (several)
        {
            html.Append("<p><small>Several samples per task: a task belongs to the run that solves the greater part of its samples; the test is the sign test over "
                + "tasks.</small></p>");
        }

        if (c.Unpaired.Count > 0)
        {
            html.Append($"<p>{c.Unpaired.Count} tasks are in one run alone and do not count: {Html(string.Join(", ", c.Unpaired))}</p>");
        }

        Differing(html, benchmark, "Only A", [.. c.Paired.Where(t => t.A > t.B)]);
        Differing(html, benchmark, "Only B", [.. c.Paired.Where(t => t.B > t.A)]);
        Alike(html, "Both", [.. c.Paired.Where(t => t.A == t.B && t.A > 0)]);
        Alike(html, "Neither", [.. c.Paired.Where(t => t.A == t.B && t.A == 0)]);
    }

    private static void Differing(StringBuilder html, BenchmarkComparison benchmark, string title, List<TaskDifference> tasks)
    {
        if (tasks.Count == 0)
        {
            return;
        }

        html.Append($"<h3>{title}: {tasks.Count}</h3>");
        foreach (var task in tasks)
        {
            var (a, b) = (Of(benchmark.AnswersA, task.TaskId), Of(benchmark.AnswersB, task.TaskId));
            html.Append($"<details><summary>{Html(task.TaskId)}: A {Html(task.OutcomeA)}{Share(task.A)}, B {Html(task.OutcomeB)}{Share(task.B)}</summary>");
            var prompt = a.Concat(b).Select(r => r.Prompt).FirstOrDefault(p => p.Length > 0);
            html.Append(prompt is null ? "" : $"<details><summary>prompt</summary>{Pre(prompt, "q")}</details>");
            html.Append("<div class=\"two\">");
            Side(html, "A", a);
            Side(html, "B", b);
            html.Append("</div></details>");
        }
    }

    private static void Side(StringBuilder html, string run, IReadOnlyList<AnswerRow> answers)
    {
        html.Append($"<div><b>{run}</b>");
        foreach (var answer in answers.Take(SamplesShown))
        {
            html.Append(Pre(answer.Text));
        }

        html.Append(answers.Count == 0 ? "<p><small>the run keeps no answers beside its results</small></p>"
            : answers.Count > SamplesShown ? $"<p><small>and {answers.Count - SamplesShown} more samples</small></p>" : "");
        html.Append("</div>");
    }

    private static void Alike(StringBuilder html, string title, List<TaskDifference> tasks)
    {
        if (tasks.Count > 0)
        {
            html.Append($"<details><summary>{title}: {tasks.Count}</summary><div class=\"w\"><table><tr><th>task</th><th>A</th><th>B</th></tr>");
            tasks.ForEach(t => html.Append($"<tr><td>{Html(t.TaskId)}</td><td>{Html(t.OutcomeA)}{Share(t.A)}</td><td>{Html(t.OutcomeB)}{Share(t.B)}</td></tr>"));
            html.Append("</table></div></details>");
        }
    }

    /// <summary>The four groups as parts of one bar.</summary>
    private static string Bar(PairedComparison c)
    {
        const double width = 720;
        (string Name, int Tasks, int Colour)[] parts = [("both", c.Both, 2), ("only A", c.OnlyA, 1), ("only B", c.OnlyB, 0), ("neither", c.Neither, 5)];
        var svg = new StringBuilder($"<figure><svg viewBox=\"0 0 {width} 18\" role=\"img\" aria-label=\"tasks by who solves them\">");
        var x = 0.0;
        foreach (var (name, tasks, colour) in parts)
        {
            var part = width * tasks / c.Tasks;
            svg.Append(CultureInfo.InvariantCulture, $"<rect class=\"c{colour}\" x=\"{x:F1}\" y=\"0\" width=\"{part:F1}\" height=\"18\"><title>{name} {tasks}</title></rect>");
            x += part;
        }

        svg.Append("</svg><figcaption>");
        foreach (var (name, tasks, colour) in parts)
        {
            svg.Append($"<span class=\"k{colour}\">{name} {tasks}</span> ");
        }

        return svg.Append("</figcaption></figure>").ToString();
    }

    private static string Name(BenchmarkComparison benchmark) => benchmark.Benchmark.Length > 0 ? benchmark.Benchmark : "tasks";

    private static IReadOnlyList<AnswerRow> Of(IReadOnlyDictionary<string, IReadOnlyList<AnswerRow>> answers, string task) =>
        answers.TryGetValue(task, out var rows) ? rows : [];

    private static string Share(double fraction) => fraction is 0 or 1 ? "" : $" ({Percent(fraction)} %)";

    private static string Count(string name, int value) => $"<data class=\"{name}\" value=\"{value}\">{value}</data>";

    private static string Points(double difference) => Figure(difference, (100 * difference).ToString("+0.0;-0.0;0.0", CultureInfo.InvariantCulture));

    private static string P(PairedComparison c) => Figure(c.P, c.P.ToString("G3", CultureInfo.InvariantCulture));
}
