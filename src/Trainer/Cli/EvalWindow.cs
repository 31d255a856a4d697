using System.CommandLine;
using System.Globalization;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Cli;

/// <summary>--from and --to: a window of dates for the benchmarks whose tasks have dates; the others are taken whole.</summary>
internal sealed class EvalWindow
{
    private readonly DateOnly? _from, _to;

    /// <param name="from">as given with --from: the first day; null for no limit</param>
    /// <param name="to">as given with --to: the day after the last; null for no limit</param>
    /// <exception cref="UsageException">No day is in between.</exception>
    public EvalWindow(string? from, string? to)
    {
        (_from, _to) = (Day(from, "--from"), Day(to, "--to"));
        if (_from >= _to)
        {
            throw new UsageException($"--from {from} --to {to}: no day is in between; --to is the day after the last");
        }
    }

    /// <summary>An option that takes a day.</summary>
    public static Option<string?> Option(string name, string description)
    {
        var option = new Option<string?>(name) { Description = description };
        PlanCommand.Readable(option, text => Day(text, name));
        return option;
    }

    /// <summary>False when neither option is given.</summary>
    public bool IsGiven => (_from ?? _to) is not null;

    /// <summary>Reads benchmarks: all tasks of each, and those in the window.</summary>
    /// <exception cref="InvalidInputException">A file is wrong: file, line and field; or a window is given and no task has a date.</exception>
    public List<(Benchmark Benchmark, IReadOnlyList<string> Files, IReadOnlyList<BenchmarkTask> All, IReadOnlyList<BenchmarkTask> Tasks)> Read(
        IEnumerable<(Benchmark Benchmark, IReadOnlyList<string> Files)> chosen)
    {
        var read = chosen.Select(c => (c.Benchmark, c.Files, All: c.Benchmark.Read(c.Files))).Select(c => (c.Benchmark, c.Files, c.All, Tasks: Of(c.All))).ToList();
        return !IsGiven || read.Exists(c => HaveDates(c.All))
            ? read
            : throw new InvalidInputException($"--from and --to go by the tasks' dates, and no task of {string.Join(", ", read.Select(c => c.Benchmark.Name))} has one.");
    }

    /// <summary>What is said of a benchmark that has no task in the window.</summary>
    public static string Empty(Benchmark benchmark, IReadOnlyList<BenchmarkTask> all) =>
        $"{benchmark.Name}: no task is in the window of --from and --to; the {all.Count} in the data are of {Text(all.Min(t => t.Date))} to {Text(all.Max(t => t.Date))}.";

    private IReadOnlyList<BenchmarkTask> Of(IReadOnlyList<BenchmarkTask> all) =>
        IsGiven && HaveDates(all) ? [.. all.Where(t => (_from is null || t.Date >= _from) && (_to is null || t.Date < _to))] : all;

    private static bool HaveDates(IReadOnlyList<BenchmarkTask> tasks) => tasks.Any(t => t.Date is not null);

    private static string Text(DateOnly? day) => day?.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture) ?? "no day";

    private static DateOnly? Day(string? text, string option) =>
        text is null ? null
        : DateOnly.TryParseExact(text, "yyyy-MM-dd", CultureInfo.InvariantCulture, DateTimeStyles.None, out var day) ? day
        : throw new InvalidInputException($"{option} is \"{text}\"; it must be a day such as 2024-08-01.");
}
