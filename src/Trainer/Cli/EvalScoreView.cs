using System.Globalization;
using Spectre.Console;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Cli;

/// <summary>Scores beside the published figures: one table on a terminal, plain lines elsewhere as each benchmark ends.</summary>
/// <param name="plain">where the lines go</param>
internal sealed class EvalScoreView(TextWriter plain)
{
    private const int NamesShown = 20;

    private readonly bool _live = ReferenceEquals(plain, Console.Out) && !Console.IsOutputRedirected && AnsiConsole.Profile.Capabilities.Interactive;
    private readonly List<BenchmarkScore> _scores = [];

    /// <summary>A benchmark's programs are about to run.</summary>
    public void Starting(Benchmark benchmark, int tasks)
    {
        if (_live)
        {
            plain.WriteLine($"grading {benchmark.Name}: {tasks} tasks");
        }
    }

    /// <summary>A benchmark has ended.</summary>
    public void Ended(BenchmarkScore score)
    {
        _scores.Add(score);
        if (!_live)
        {
            foreach (var line in Lines(score, _scores.Count == 1))
            {
                plain.WriteLine(line);
            }
        }
    }

    /// <summary>All have ended.</summary>
    public void Finish()
    {
        if (!_live)
        {
            return;
        }

        AnsiConsole.Write(Table(_scores));
        foreach (var score in _scores)
        {
            foreach (var note in Notes(score))
            {
                plain.WriteLine($"{score.Benchmark.Name}: {note}");
            }
        }
    }

    /// <summary>The table of these scores.</summary>
    public static Table Table(IReadOnlyList<BenchmarkScore> scores)
    {
        var table = new Table().Border(TableBorder.Rounded).Caption("published figures in %; - where none is published");
        table.AddColumns("benchmark", "pass@1", "95 %", "tasks");
        foreach (var model in PublishedFigures.Models)
        {
            table.AddColumn(new TableColumn(Markup.Escape(model)));
        }

        foreach (var score in scores)
        {
            var summary = score.Summary;
            var published = PublishedFigures.Of(score.Benchmark.Name);
            Row(table, score.Benchmark.Name, summary.PassAt1, summary.Interval, Tasks(score), m => Find(published, m)?.Percent);
            foreach (var kind in summary.Kinds)
            {
                Row(table, $"  {kind.Kind}", kind.PassAt1, kind.Interval, $"{kind.Tasks}", m => Find(published, m)?.Kinds is { } kinds && kinds.TryGetValue(kind.Kind, out var v) ? v : null);
            }
        }

        return table;
    }

    /// <summary>The lines of one score.</summary>
    /// <param name="score">a score</param>
    /// <param name="heading">with the line of headings before it</param>
    public static IEnumerable<string> Lines(BenchmarkScore score, bool heading)
    {
        if (heading)
        {
            yield return $"{"benchmark",-28} {"pass@1",7} {"95 %",16} {"tasks",11}   published (%): {string.Join(", ", PublishedFigures.Models)}";
        }

        var summary = score.Summary;
        var published = PublishedFigures.Of(score.Benchmark.Name);
        string Beside(Func<PublishedFigure, double?> figure) => published.Count == 0 ? ""
            : string.Join(", ", PublishedFigures.Models.Select(m => Find(published, m) is { } p && figure(p) is { } v ? Percent(v) : "-"));
        yield return Line(score.Benchmark.Name, summary.PassAt1, summary.Interval, Tasks(score), Beside(p => p.Percent));
        foreach (var kind in summary.Kinds)
        {
            yield return Line(
                $"  {kind.Kind}", kind.PassAt1, kind.Interval, $"{kind.Tasks}",
                published.Any(p => p.Kinds is not null) ? Beside(p => p.Kinds is { } kinds && kinds.TryGetValue(kind.Kind, out var v) ? v : null) : "");
        }

        foreach (var note in Notes(score))
        {
            yield return $"  {note}";
        }
    }

    private static IEnumerable<string> Notes(BenchmarkScore score)
    {
        foreach (var (k, value) in score.Summary.PassAt.Where(p => p.Key > 1))
        {
            yield return $"pass@{k} {Fraction(value)}";
        }

        if (score.Sanitized is { } cut)
        {
            yield return $"as answered {Fraction(score.Plain.PassAt1)}, cut after the solution {Fraction(cut.PassAt1)}; the higher counts";
        }

        foreach (var note in PublishedFigures.Caveats(score.Benchmark.Name, score.Basis, score.Summary.Tasks.Count).Concat(score.Notes(NamesShown)))
        {
            yield return note;
        }
    }

    /// <summary>Tasks that count, and of how many where the data hold another number than the published benchmark.</summary>
    private static string Tasks(BenchmarkScore score) =>
        PublishedFigures.TasksOf(score.Benchmark.Name) is { } whole && whole != score.Basis.Present
            ? $"{score.Summary.Tasks.Count} of {whole}" : $"{score.Summary.Tasks.Count}";

    private static PublishedFigure? Find(IReadOnlyList<PublishedFigure> published, string model) => published.FirstOrDefault(p => p.Model == model);

    private static void Row(Table table, string name, double value, Interval interval, string tasks, Func<string, double?> published) => table.AddRow(
    [
        Markup.Escape(name), Fraction(value), Markup.Escape(Range(interval)), tasks,
        .. PublishedFigures.Models.Select(m => published(m) is { } percent ? Percent(percent) : "-"),
    ]);

    private static string Line(string name, double value, Interval interval, string tasks, string published) =>
        $"{name,-28} {Fraction(value),7} {Range(interval),16} {tasks,11}   {published}".TrimEnd();

    private static string Range(Interval interval) => $"[{Fraction(interval.Low)}, {Fraction(interval.High)}]";

    private static string Fraction(double value) => double.IsNaN(value) ? "-" : Percent(100 * value);

    private static string Percent(double value) => value.ToString("F1", CultureInfo.InvariantCulture);
}
