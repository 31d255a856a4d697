using System.Globalization;
using System.Text;
using System.Text.Json;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;
using static Z1Coder.Trainer.Report.HtmlPage;

namespace Z1Coder.Trainer.Report;

/// <summary>
/// An evaluation as one page, from the files that the verbs of z1 eval leave in a directory (<see cref="EvaluationFiles"/>): the scores
/// beside the published figures, outcomes, groups, and every task with its outcome and, folded, prompt, answer and error text. Only the
/// verdicts must be there.
/// </summary>
public static class EvaluationReport
{
    private const int SamplesShown = 3;

    /// <summary>Gives the page's text.</summary>
    /// <param name="folder">directory of an evaluation</param>
    /// <exception cref="InvalidInputException">it holds none, or a file in it is not what its name says</exception>
    public static string Render(string folder)
    {
        var names = Directory.Exists(folder) ? EvaluationFiles.BenchmarksIn(folder) : [];
        if (names.Count == 0)
        {
            throw new InvalidInputException($"{folder} is no evaluation: it holds no NAME{EvaluationFiles.Results}.");
        }

        var runs = names.Select(name => Read(folder, name)).ToList();
        var title = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)));
        var html = new StringBuilder(Begin("z1 eval", $"Evaluation {title}"));
        Scores(html, runs);
        runs.ForEach(r => One(html, r));
        return html.Append(End).ToString();
    }

    private static Run Read(string folder, string name)
    {
        var score = EvaluationFiles.ReadScore(EvaluationFiles.PathOf(folder, name, EvaluationFiles.Score));
        var details = EvaluationFiles.PathOf(folder, name, EvaluationFiles.Details);
        var cut = score is { } s && Number(s, "pass_at_1_cut") > Number(s, "pass_at_1_as_answered");
        return new Run(
            name, score, TaskVerdicts.Read(EvaluationFiles.PathOf(folder, name, EvaluationFiles.Results)),
            AnswerRow.Read(EvaluationFiles.PathOf(folder, name, EvaluationFiles.Answers)),
            RunDetail.Read(cut ? [details, details + EvaluationFiles.Cut] : [details]));
    }

    private static void Scores(StringBuilder html, List<Run> runs)
    {
        var scored = runs.Where(r => r.Score is not null).ToList();
        if (scored.Count == 0)
        {
            return;
        }

        var named = scored.SelectMany(r => Published(r.Score!.Value)).Select(p => p.Model).ToHashSet();
        List<string> models = [.. PublishedFigures.Models.Where(named.Contains)];
        var chart = new ScoreChart("pass@1, %", "strokes are published figures", models);
        html.Append("<h2>Scores</h2><div class=\"w\"><table class=\"scores\">");
        html.Append("<tr><th>benchmark</th><th>pass@1, %</th><th>95 % interval</th><th>tasks</th>");
        models.ForEach(m => html.Append($"<th>{Html(m)}</th>"));
        html.Append("</tr>");
        foreach (var run in scored)
        {
            var score = run.Score!.Value;
            var published = Published(score);
            var (present, whole) = (Number(score, "tasks_present"), Number(score, "tasks_published"));
            var tasks = $"{Whole(Number(score, "tasks"))}{(whole > 0 && present != whole ? $" of {Whole(whole)}" : "")}";
            Row(html, run.Name, score, tasks, models.Select(m => Find(published, m)?.Percent));
            var marks = published.Select(p => (p.Model, p.Percent)).ToList();
            chart.Add(run.Name, Number(score, "pass_at_1"), Number(score, "low"), Number(score, "high"), marks);
            foreach (var kind in Objects(score, "kind_scores").OrderBy(k => KindScore.Rank(Text(k, "kind"))))
            {
                var name = Text(kind, "kind");
                Row(html, $"– {name}", kind, Whole(Number(kind, "tasks")), models.Select(m => Find(published, m)?.Of(name)));
            }
        }

        html.Append("</table></div>");
        var sources = scored.SelectMany(r => Published(r.Score!.Value)).Select(p => p.Source).Distinct().ToList();
        html.Append(sources.Count > 0
            ? $"<p><small>Published figures, %: {Html(string.Join(", ", sources))}. A dash: none is published.</small></p>"
            : "<p><small>No figures are published for these.</small></p>");
        html.Append("<ul>");
        foreach (var (name, caveat) in scored.SelectMany(r => Strings(r.Score!.Value, "caveats").Select(c => (r.Name, c))))
        {
            html.Append($"<li>{Html(name)}: {Html(caveat)}</li>");
        }

        html.Append($"</ul>{chart.ToHtml()}");
    }

    private static void Row(StringBuilder html, string name, JsonElement score, string tasks, IEnumerable<double?> published)
    {
        html.Append($"<tr><td>{Html(name)}</td><td>{Percent(Number(score, "pass_at_1"))}</td>");
        html.Append($"<td>[{Percent(Number(score, "low"))}, {Percent(Number(score, "high"))}]</td><td class=\"n\">{Html(tasks)}</td>");
        foreach (var figure in published)
        {
            var shown = figure is { } percent ? Figure(percent, percent.ToString("F1", CultureInfo.InvariantCulture)) : "–";
            html.Append($"<td>{shown}</td>");
        }

        html.Append("</tr>");
    }

    private static void One(StringBuilder html, Run run)
    {
        html.Append($"<h2>{Html(run.Name)}</h2>");
        Outcomes(html, run);
        if (run.Score is { } score)
        {
            Facts(html, score);
        }

        var failed = run.Verdicts.Where(v => v.Passed.Contains(false)).ToList();
        html.Append($"<h3>Not solved in every sample: {failed.Count}</h3>");
        failed.ForEach(v => Task(html, run, v));
        html.Append($"<details><summary>Solved: {run.Verdicts.Count - failed.Count}</summary>");
        foreach (var verdicts in run.Verdicts.Where(v => !v.Passed.Contains(false)))
        {
            Task(html, run, verdicts);
        }

        html.Append("</details>");
    }

    private static void Outcomes(StringBuilder html, Run run)
    {
        var kinds = run.Verdicts.Select(v => run.KindOf(v.TaskId)).Distinct().OrderBy(KindScore.Rank).ToList();
        var outcomes = run.Verdicts.SelectMany(v => v.Outcomes).Distinct()
            .OrderBy(o => Enum.TryParse<SandboxOutcome>(o, out var known) ? (int)known : int.MaxValue).ToList();
        html.Append("<div class=\"w\"><table class=\"outcomes\"><tr><th>samples</th>");
        outcomes.ForEach(o => html.Append($"<th>{Html(o)}</th>"));
        html.Append("<th>all</th></tr>");
        if (kinds.Count > 1)
        {
            foreach (var kind in kinds)
            {
                Counts(html, kind.Length > 0 ? kind : "no group", [.. run.Verdicts.Where(v => run.KindOf(v.TaskId) == kind)], outcomes);
            }
        }

        Counts(html, "all", run.Verdicts, outcomes);
        html.Append("</table></div>");
    }

    private static void Counts(StringBuilder html, string name, IReadOnlyList<TaskVerdicts> verdicts, List<string> outcomes)
    {
        html.Append($"<tr><td>{Html(name)}</td>");
        outcomes.ForEach(o => html.Append($"<td>{verdicts.Sum(v => v.Outcomes.Count(x => x == o))}</td>"));
        html.Append($"<td>{verdicts.Sum(v => v.Outcomes.Count)}</td></tr>");
    }

    private static void Facts(StringBuilder html, JsonElement score)
    {
        var facts = new List<string>();
        facts.AddRange(Numbers(score, "pass_at").Where(p => p.Key != "1").Select(p => $"pass@{Html(p.Key)} {Percent(p.Value)} %"));
        if (Number(score, "pass_at_1_cut") is var cut && double.IsFinite(cut))
        {
            var answered = Number(score, "pass_at_1_as_answered");
            facts.Add($"as answered {Percent(answered)} %, cut after the solution {Percent(cut)} %; the higher counts");
        }

        if (Strings(score, "excluded") is { Count: > 0 } excluded)
        {
            facts.Add($"do not count because their reference solution fails here: {Html(string.Join(", ", excluded))}");
        }

        if (score.TryGetProperty("not_runnable", out var unable) && unable.ValueKind == JsonValueKind.Object)
        {
            var tasks = unable.EnumerateObject().Select(t => $"{t.Name} ({string.Join(", ", Items(t.Value))})").ToList();
            facts.AddRange(tasks.Count > 0 ? [$"not runnable here, a package is not installed: {Html(string.Join(", ", tasks))}"] : []);
        }

        if (score.TryGetProperty("reference", out var reference) && reference.ValueKind == JsonValueKind.True)
        {
            facts.Add("the answers are the benchmark's own reference solutions");
        }

        if (Number(score, "run_again_alone") is var again && double.IsFinite(again))
        {
            facts.Add($"timed out and run again alone {Whole(again)}, verdicts changed by it {Whole(Number(score, "changed_verdicts"))}");
        }

        html.Append(facts.Count > 0 ? $"<ul><li>{string.Join("</li><li>", facts)}</li></ul>" : "");
    }

    private static void Task(StringBuilder html, Run run, TaskVerdicts verdicts)
    {
        var answers = run.Answers.TryGetValue(verdicts.TaskId, out var rows) ? rows : [];
        var kind = run.KindOf(verdicts.TaskId);
        var passed = verdicts.Passed.Count(p => p);
        var (mark, group) = (passed == verdicts.Passed.Count ? "✓" : "✗", kind.Length > 0 ? $" ({kind})" : "");
        html.Append($"<details><summary>{mark} {Html(verdicts.TaskId + group)}: {Html(verdicts.Outcome)}");
        html.Append(verdicts.Passed.Count > 1 ? $", {passed} of {verdicts.Passed.Count} samples pass" : "");
        html.Append(Detail(run, verdicts, verdicts.Outcomes.ToList().IndexOf(verdicts.Outcome)) is { Error: { Length: > 0 } error }
            ? $" <small>{Html(error.TrimEnd().Split('\n')[^1])}</small></summary>" : "</summary>");
        html.Append(answers is [{ Prompt: { Length: > 0 } prompt }, ..] ? $"<details><summary>prompt</summary>{Pre(prompt, "q")}</details>" : "");
        for (var i = 0; i < Math.Min(SamplesShown, verdicts.Outcomes.Count); i++)
        {
            html.Append(verdicts.Outcomes.Count > 1 ? $"<p>{Html(verdicts.Outcomes[i])}</p>" : "");
            if (answers.FirstOrDefault(a => a.Sample == i) is { } answer)
            {
                html.Append(Pre(answer.Text));
                html.Append(answer.Finish is { } finish ? $"<p><small>ended by {Html(finish)}</small></p>" : "");
            }

            if (Detail(run, verdicts, i) is { } detail)
            {
                var times = $"{Seconds(detail.WallSeconds)} s of {Seconds(detail.LimitSeconds)} s";
                html.Append(detail.Error.Length > 0
                    ? $"<details><summary>standard error, {times}</summary>{Pre(detail.Error)}</details>"
                    : $"<p><small>{times}</small></p>");
            }
            else if (!verdicts.Passed[i] && run.Details.Count > 0)
            {
                html.Append("<p><small>graded in an earlier run, whose error text is not kept</small></p>");
            }
        }

        var more = verdicts.Outcomes.Count - SamplesShown;
        html.Append(more > 0 ? $"<p><small>and {more} more samples</small></p></details>" : "</details>");
    }

    /// <summary>What a sample's program said; null where the file holds another program's words: the outcomes differ then.</summary>
    private static RunDetail? Detail(Run run, TaskVerdicts verdicts, int sample) =>
        run.Details.TryGetValue((verdicts.TaskId, sample), out var detail) && detail.Outcome == verdicts.Outcomes[sample] ? detail : null;

    private static string Seconds(double value) => value.ToString("0.##", CultureInfo.InvariantCulture);

    private static List<PublishedFigure> Published(JsonElement score) =>
    [
        .. Objects(score, "published")
            .Select(p => new PublishedFigure(Text(p, "model"), Number(p, "percent"), Text(p, "source"), Numbers(p, "kinds"))),
    ];

    private static PublishedFigure? Find(List<PublishedFigure> published, string model) => published.Find(p => p.Model == model);

    private static Dictionary<string, double> Numbers(JsonElement parent, string name) =>
        parent.TryGetProperty(name, out var map) && map.ValueKind == JsonValueKind.Object
            ? map.EnumerateObject().Where(p => p.Value.ValueKind == JsonValueKind.Number)
                .ToDictionary(p => p.Name, p => p.Value.GetDouble(), StringComparer.Ordinal)
            : [];

    private static IEnumerable<JsonElement> Objects(JsonElement parent, string name) =>
        parent.TryGetProperty(name, out var list) && list.ValueKind == JsonValueKind.Array
            ? list.EnumerateArray().Where(e => e.ValueKind == JsonValueKind.Object) : [];

    private static List<string> Strings(JsonElement parent, string name) => parent.TryGetProperty(name, out var list) ? Items(list) : [];

    private static List<string> Items(JsonElement list) =>
        list.ValueKind == JsonValueKind.Array
            ? [.. list.EnumerateArray().Where(e => e.ValueKind == JsonValueKind.String).Select(e => e.GetString()!)] : [];

    private static string Text(JsonElement parent, string name) =>
        parent.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";

    private static double Number(JsonElement parent, string name) =>
        parent.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : double.NaN;

    private static string Whole(double value) => double.IsNaN(value) ? "–" : value.ToString("0", CultureInfo.InvariantCulture);

    private sealed record Run(
        string Name, JsonElement? Score, IReadOnlyList<TaskVerdicts> Verdicts,
        IReadOnlyDictionary<string, IReadOnlyList<AnswerRow>> Answers, IReadOnlyDictionary<(string TaskId, int Sample), RunDetail> Details)
    {
        internal string KindOf(string task) => Answers.TryGetValue(task, out var rows) ? rows[0].Kind ?? "" : "";
    }
}
