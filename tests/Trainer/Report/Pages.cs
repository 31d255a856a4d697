using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Report;

/// <summary>Evaluation folders made by hand, and what a page says to a program.</summary>
internal static partial class Pages
{
    /// <summary>Text that breaks out of an element, an attribute or a comment where it is not escaped.</summary>
    internal const string Hostile = "</pre></td>--><script>alert('1')</script><img src=x onerror=\"alert(2)\">";

    private static readonly HashSet<string> s_tags =
    [
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "small", "b", "div", "table", "tr", "th", "td", "ul", "li",
        "pre", "details", "summary", "data", "figure", "figcaption", "span", "svg", "text", "line", "circle", "rect", "polyline", "br",
    ];

    /// <summary>A folder of its own below the temporary one.</summary>
    internal static string Folder() => Directory.CreateTempSubdirectory("z1-pages-").FullName;

    /// <summary>Verdicts as the grader writes them: each task with one '+' or '-' per sample.</summary>
    internal static string Verdicts(string folder, string benchmark, string tasks, string failed = "Failed")
    {
        Directory.CreateDirectory(folder);
        var path = EvaluationFiles.PathOf(folder, benchmark, EvaluationFiles.Results);
        File.WriteAllLines(path, tasks.Split(' ').SelectMany(t => t.Split(':')[1].Select((c, i) => JsonSerializer.Serialize(new
        {
            task_id = t.Split(':')[0], sample = i, passed = c == '+', outcome = c == '+' ? "Passed" : failed,
        }))));
        return path;
    }

    /// <summary>Answers, one a task.</summary>
    internal static void Answers(string folder, string name, params (string Task, string Tests, string Prompt, string Text)[] answers) =>
        File.WriteAllLines(EvaluationFiles.PathOf(folder, name, EvaluationFiles.Answers), answers.Select(a => JsonSerializer.Serialize(new
        {
            task_id = a.Task, sample = 0, kind = "easy", tests = a.Tests, prompt = a.Prompt, completion = a.Text,
        })));

    /// <summary>The numbers in a piece of a page, whole as a program reads them.</summary>
    internal static double[] Numbers(string html) =>
        [.. Data().Matches(html).Select(m => double.Parse(m.Groups[1].Value, CultureInfo.InvariantCulture))];

    /// <summary>The row of a table that begins with this cell.</summary>
    internal static string Row(string html, string cell)
    {
        var from = html.IndexOf($"<tr><td>{cell}</td>", StringComparison.Ordinal);
        Assert.True(from >= 0, $"no row {cell}");
        return html[from..html.IndexOf("</tr>", from, StringComparison.Ordinal)];
    }

    /// <summary>Nothing runs, nothing is fetched, and every tag is one that the pages are made of.</summary>
    internal static void IsSafe(string html)
    {
        var strange = Tag().Matches(html).Select(m => m.Groups[1].Value).Where(t => !s_tags.Contains(t)).ToList();
        Assert.True(strange.Count == 0, string.Join(", ", strange));
        Assert.DoesNotMatch(Attribute(), html);
        Assert.StartsWith("<!doctype html>", html);
        Assert.EndsWith("</main></body></html>\n", html);
        Assert.Contains("prefers-color-scheme:dark", html);
        foreach (var tag in s_tags.Where(t => t is not ("meta" or "br" or "circle" or "rect" or "polyline" or "line" or "title")))
        {
            Assert.True(Regex.Count(html, $"<{tag}[ >]") == Regex.Count(html, $"</{tag}>"), $"<{tag}> is not closed as often as opened");
        }
    }

    [GeneratedRegex("<data[^>]* value=\"([^\"]*)\"")]
    private static partial Regex Data();

    [GeneratedRegex(@"</?([A-Za-z][\w-]*)")]
    private static partial Regex Tag();

    [GeneratedRegex("<[^>]*\\s(src|href|on\\w+|url)\\s*=|https?:|@import|url\\(")]
    private static partial Regex Attribute();
}
