using System.Net;
using System.Text;

namespace Z1Coder.Perf;

/// <summary>
/// Two runs side by side, case by case. A case has become slower when its ratio new / base passes 1 by more than the spreads of both runs
/// together: what the runs' own noise explains is never called a regression.
/// </summary>
public sealed class PerfComparison
{
    private readonly PerfReport _before, _after;

    /// <summary>Joins the two by suite, name and shape.</summary>
    public PerfComparison(PerfReport before, PerfReport after)
    {
        ArgumentNullException.ThrowIfNull(before);
        ArgumentNullException.ThrowIfNull(after);
        (_before, _after) = (before, after);
        var byKey = before.Rows.GroupBy(r => r.Key).ToDictionary(g => g.Key, g => g.First());
        Lines = [.. after.Rows.Where(r => byKey.ContainsKey(r.Key)).Select(r => new PerfComparisonLine(byKey[r.Key], r))];
        var present = after.Rows.Select(r => r.Key).ToHashSet();
        Missing = [.. before.Rows.Where(r => !present.Contains(r.Key)).Select(r => r.Key)];
    }

    /// <summary>Cases in both runs, in the order of the later one.</summary>
    public IReadOnlyList<PerfComparisonLine> Lines { get; }

    /// <summary>Cases of the base that the later run lacks.</summary>
    public IReadOnlyList<string> Missing { get; }

    /// <summary>Whether any case became slower beyond the noise shown, or is missing.</summary>
    public bool HasRegression => Missing.Count > 0 || Lines.Any(l => l.Verdict == PerfVerdict.Slower);

    /// <summary>A table for a pull request.</summary>
    public string ToMarkdown()
    {
        var text = new StringBuilder();
        text.Append($"{_before.Device} of {_before.Machine}, {_before.MeasuredUtc:yyyy-MM-dd HH:mm} UTC -> {_after.Device} of {_after.Machine}, {_after.MeasuredUtc:yyyy-MM-dd HH:mm} UTC\n\n");
        text.Append("| suite | case | shape | base µs | new µs | new / base | noise | verdict |\n|---|---|---|---|---|---|---|---|\n");
        foreach (var line in Lines)
        {
            text.Append($"| {string.Join(" | ", Cells(line))} |\n");
        }

        foreach (var key in Missing)
        {
            text.Append($"\nmissing: {key}\n");
        }

        return text.ToString();
    }

    /// <summary>One page without script that fetches nothing.</summary>
    public string ToHtml()
    {
        var text = new StringBuilder("<!doctype html><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>perf compare</title>");
        text.Append("<style>body{font:15px sans-serif;margin:1em}table{border-collapse:collapse}td,th{padding:.2em .6em;border-bottom:1px solid #ccc;text-align:right}");
        text.Append("td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}.slower{background:#fdd}.faster{background:#dfd}</style>");
        text.Append($"<p>{Encode($"{_before.Device} of {_before.Machine}")}, {_before.MeasuredUtc:yyyy-MM-dd HH:mm} UTC &rarr; {Encode($"{_after.Device} of {_after.Machine}")}, {_after.MeasuredUtc:yyyy-MM-dd HH:mm} UTC</p>");
        text.Append("<table><tr><th>suite<th>case<th>shape<th>base µs<th>new µs<th>new / base<th>noise<th>verdict");
        foreach (var line in Lines)
        {
            text.Append($"<tr class=\"{line.Verdict.ToString().ToLowerInvariant()}\">{string.Concat(Cells(line).Select(c => $"<td>{Encode(c)}"))}");
        }

        text.Append("</table>");
        foreach (var key in Missing)
        {
            text.Append($"<p>missing: {Encode(key)}</p>");
        }

        return text.Append('\n').ToString();
    }

    private static string Encode(string text) => WebUtility.HtmlEncode(text);

    private static string[] Cells(PerfComparisonLine line) =>
    [
        line.After.Suite, line.After.Name, line.After.Shape, $"{line.Before.P50:F1}", $"{line.After.P50:F1}", $"{line.Ratio:F3}", $"±{line.Noise:P1}",
        line.Verdict.ToString().ToLowerInvariant(),
    ];
}
