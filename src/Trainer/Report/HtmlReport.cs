using System.Text;
using System.Text.Json;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Train;
using static Z1Coder.Trainer.Report.HtmlPage;

namespace Z1Coder.Trainer.Report;

/// <summary>A run as one HTML page that opens with no network: figures, curves, worked samples, the resolved recipe, the environment.</summary>
public static class HtmlReport
{
    private const int SamplesPerKind = 3;

    /// <summary>Reads the run in <paramref name="directory"/> and gives the page's text.</summary>
    /// <exception cref="InvalidInputException">the directory holds no run</exception>
    public static string Render(string directory)
    {
        var recipe = Path.Combine(directory, RunFiles.Recipe);
        if (!File.Exists(recipe))
        {
            throw new InvalidInputException($"{directory}: not a run ({RunFiles.Recipe} is missing)");
        }

        var stages = Directory.GetDirectories(directory).Where(d => File.Exists(Path.Combine(d, RunFiles.Metrics)))
            .OrderBy(d => d, StringComparer.Ordinal).ToList();
        var name = Path.GetFileName(Path.GetFullPath(directory));
        var html = new StringBuilder();
        html.Append(HtmlPage.Begin($"z1 report: {name}", name));
        Summary(html, Path.Combine(directory, RunFiles.Summary));
        Curves(html, stages);
        foreach (var stage in stages)
        {
            Samples(html, stage);
        }

        foreach (var stage in stages)
        {
            Json(html, $"Data of {Path.GetFileName(stage)}", Path.Combine(stage, RunFiles.Data));
        }

        html.Append($"<h2>Recipe, resolved</h2><pre>{Html(File.ReadAllText(recipe))}</pre>");
        Json(html, "Environment", Path.Combine(directory, RunFiles.Environment));
        return html.Append(HtmlPage.End).ToString();
    }

    private static void Summary(StringBuilder html, string path)
    {
        if (!File.Exists(path))
        {
            return;
        }

        using var json = JsonDocument.Parse(File.ReadAllBytes(path));
        html.Append("<h2>Summary</h2>");
        if (json.RootElement.TryGetProperty("pass_at_1", out var passes))
        {
            var rows = passes.EnumerateArray().ToList();
            var kinds = rows.SelectMany(r => r.GetProperty("kinds").EnumerateObject().Select(k => k.Name)).Distinct().ToList();
            html.Append("<div class=\"w\"><table><tr><th>weights</th>");
            kinds.ForEach(k => html.Append($"<th>{Html(k)}</th>"));
            html.Append("<th>all</th></tr>");
            foreach (var row in rows)
            {
                html.Append($"<tr><td>{Html(row.GetProperty("weights").GetString()!)}</td>");
                foreach (var kind in kinds)
                {
                    html.Append(row.GetProperty("kinds").TryGetProperty(kind, out var cell) ? $"<td>{Cell(cell)}</td>" : "<td></td>");
                }

                html.Append($"<td>{Cell(row)}</td></tr>");
            }

            html.Append("</table></div><p><small>pass@1 by execution, greedy; in brackets the 95 % interval, then solved of all</small></p>");
        }

        html.Append("<div class=\"w\"><table>");
        foreach (var property in json.RootElement.EnumerateObject().Where(p => p.Value.ValueKind is JsonValueKind.Number or JsonValueKind.String))
        {
            Row(html, property);
        }

        html.Append("</table></div>");
    }

    private static string Cell(JsonElement element) =>
        $"{element.GetProperty("pass_at_1").GetDouble():P1} <small>[{element.GetProperty("low").GetDouble():P0}, {element.GetProperty("high").GetDouble():P0}] "
        + $"{element.GetProperty("solved").GetInt32()}/{element.GetProperty("tasks").GetInt32()}</small>";

    private static void Curves(StringBuilder html, List<string> stages)
    {
        var loss = new LineChart("Loss", "nats per loss token, over optimizer steps", logarithmic: true);
        var rate = new LineChart("Learning rate", "over optimizer steps");
        var norm = new LineChart("Gradient norm", "before clipping, over optimizer steps");
        var passed = new LineChart("pass@1 while training", "share of probe tasks solved, over optimizer steps");
        var speed = new LineChart("Tokens per second", "packed tokens, over optimizer steps");
        foreach (var stage in stages)
        {
            var name = Path.GetFileName(stage);
            var lines = ReadMetrics(Path.Combine(stage, RunFiles.Metrics));
            IEnumerable<(double, double)> Of(string type, string key) =>
                lines.Where(l => l.Type == type && l.Values.ContainsKey(key)).Select(l => (l.Step, l.Values[key]));
            loss.Add($"{name} train", Of("step", "loss")).Add($"{name} held out", Of("eval_loss", "loss"));
            rate.Add(name, Of("step", "lr"));
            norm.Add(name, Of("step", "grad_norm"));
            passed.Add(name, Of("pass_at_1", "pass_at_1"));
            speed.Add(name, Of("step", "tokens_per_second"));
        }

        html.Append("<h2>Training</h2><div class=\"charts\">");
        foreach (var chart in new[] { loss, passed, rate, norm, speed })
        {
            html.Append(chart.ToHtml());
        }

        html.Append("</div>");
    }

    private static List<(string Type, double Step, Dictionary<string, double> Values)> ReadMetrics(string path)
    {
        var lines = new List<(string, double, Dictionary<string, double>)>();
        foreach (var line in WholeLines(path))
        {
            using var json = JsonDocument.Parse(line);
            var root = json.RootElement;
            var values = root.EnumerateObject().Where(p => p.Value.ValueKind == JsonValueKind.Number).ToDictionary(p => p.Name, p => p.Value.GetDouble());
            lines.Add((root.GetProperty("type").GetString()!, values["step"], values));
        }

        return lines;
    }

    /// <summary>The lines that end: a run that goes on, or was killed, may have written half of the last one.</summary>
    private static string[] WholeLines(string path)
    {
        var text = File.ReadAllText(path);
        return text[..(text.LastIndexOf('\n') + 1)].Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    private static void Samples(StringBuilder html, string stage)
    {
        var path = Path.Combine(stage, RunFiles.Answers);
        if (!File.Exists(path))
        {
            return;
        }

        html.Append($"<h2>Worked samples after {Html(Path.GetFileName(stage))}</h2>");
        var shown = new Dictionary<(string, bool), int>();
        foreach (var line in WholeLines(path))
        {
            using var json = JsonDocument.Parse(line);
            var root = json.RootElement;
            var (kind, passed) = (root.GetProperty("kind").GetString() ?? "", root.GetProperty("passed").GetBoolean());
            var count = shown.GetValueOrDefault((kind, passed));
            if (count == (passed ? SamplesPerKind : 1))
            {
                continue;
            }

            shown[(kind, passed)] = count + 1;
            html.Append($"<details{(count == 0 && passed ? " open" : "")}><summary>{(passed ? "✓" : "✗")} {Html(root.GetProperty("task_id").GetString()!)} ({Html(kind)}): "
                + $"{Html(root.GetProperty("outcome").GetString()!)}</summary><pre class=\"q\">{Html(root.GetProperty("prompt").GetString()!)}</pre>"
                + $"<pre>{Html(root.GetProperty("completion").GetString()!)}</pre></details>");
        }
    }

    private static void Json(StringBuilder html, string title, string path)
    {
        if (!File.Exists(path))
        {
            return;
        }

        using var json = JsonDocument.Parse(File.ReadAllBytes(path));
        html.Append($"<h2>{Html(title)}</h2><div class=\"w\"><table>");
        foreach (var property in json.RootElement.EnumerateObject())
        {
            Row(html, property);
        }

        html.Append("</table></div>");
    }

    private static void Row(StringBuilder html, JsonProperty property) =>
        html.Append($"<tr><th>{Html(property.Name.Replace('_', ' '))}</th><td>{Value(property.Value)}</td></tr>");

    /// <summary>Whole numbers in groups of three, one entry of a list a line, an object as its values with their names.</summary>
    private static string Value(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Number when value.TryGetInt64(out var whole) => whole.ToString("N0"),
        JsonValueKind.Number => value.GetDouble() is var number && Math.Abs(number) >= 1e4 ? number.ToString("N0") : number.ToString("0.####"),
        JsonValueKind.Array when value.GetArrayLength() == 0 => "none",
        JsonValueKind.Array => string.Join("<br>", value.EnumerateArray().Select(Value)),
        JsonValueKind.Object => string.Join(", ", value.EnumerateObject().Select(p => $"{Html(p.Name)}: {Value(p.Value)}")),
        _ => Html(value.ToString()),
    };
}
