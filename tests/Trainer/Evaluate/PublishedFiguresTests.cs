using System.Globalization;
using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

public sealed class PublishedFiguresTests
{
    // Columns of the table of results, as the notes of the project give them.
    private static readonly string[] s_columns =
        ["humaneval+", "humaneval-pro", "mbpp+", "mbpp-pro", "livecodebench", "bigcodebench-complete", "bigcodebench-hard-complete"];

    [Fact]
    public void Every_figure_is_of_a_benchmark_there_is_and_has_a_source()
    {
        foreach (var benchmark in Benchmark.All)
        {
            Assert.All(PublishedFigures.Of(benchmark.Name), f =>
            {
                Assert.Contains(f.Model, PublishedFigures.Models);
                Assert.InRange(f.Percent, 0.1, 99.9);
                Assert.Matches(@"^[\w-]+/[\w-]+:[\w./]+$", f.Source);
            });
        }

        Assert.Equal(s_columns.Concat(["bigcodebench-instruct", "bigcodebench-hard-instruct"]).Order(StringComparer.Ordinal),
            Benchmark.All.Select(b => b.Name).Where(n => PublishedFigures.Of(n).Count > 0).Order(StringComparer.Ordinal));
        Assert.Empty(PublishedFigures.Of("humaneval"));
        Assert.Empty(PublishedFigures.Of("mbpp"));
        Assert.Empty(PublishedFigures.Of("bigcodebench-lite-pro"));
    }

    [Fact]
    public void Sizes_are_those_that_the_benchmarks_state()
    {
        foreach (var benchmark in Benchmark.All)
        {
            if (PublishedFigures.TasksOf(benchmark.Name) is { } tasks)
            {
                Assert.Contains($" {tasks} tasks", benchmark.Description, StringComparison.Ordinal);
            }
            else
            {
                Assert.Contains(benchmark.Name, (string[])["mbpp", "livecodebench"]);        // several versions
            }
        }
    }

    /// <summary>The notes lie beside the real data, not in this repository; without them there is nothing to hold the figures against.</summary>
    [Fact]
    public void Figures_are_those_of_the_notes()
    {
        var notes = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(TestFiles.Benchmark("HumanEval.jsonl"))!, "..", "..", "FACTS.md"));
        if (!File.Exists(notes))
        {
            Assert.Skip($"{notes} is not there");
        }

        var rows = File.ReadLines(notes).Where(l => Regex.IsMatch(l, @"^\| \**(Z1-Coder-|Qwen2\.5-Coder-)[\d.]+B(-Ins)?\** \|"))
            .Select(l => l.Split('|', StringSplitOptions.TrimEntries)[1..^1]).Where(c => c.Length == 8)
            .ToDictionary(c => c[0].Trim('*').Replace("-Ins", "-Instruct"), c => c[1..]);
        Assert.Equal(PublishedFigures.Models.Order(StringComparer.Ordinal), rows.Keys.Order(StringComparer.Ordinal));
        foreach (var (model, cells) in rows)
        {
            for (var c = 0; c < cells.Length; c++)
            {
                var figure = Assert.Single(PublishedFigures.Of(s_columns[c]), f => f.Model == model);
                var numbers = Regex.Matches(cells[c], @"[\d.]+").Select(m => double.Parse(m.Value, CultureInfo.InvariantCulture)).ToArray();
                Assert.Equal(numbers[0], figure.Percent);
                Assert.Equal(numbers[1..], figure.Kinds is { } kinds ? [kinds["easy"], kinds["medium"], kinds["hard"]] : []);
            }
        }

        var instruct = Regex.Match(File.ReadAllText(notes), @"instruct split ([\d.]+) / ([\d.]+)");
        Assert.Equal(
            instruct.Groups.Values.Skip(1).Select(g => double.Parse(g.Value, CultureInfo.InvariantCulture)),
            ((string[])["bigcodebench-instruct", "bigcodebench-hard-instruct"]).Select(b => PublishedFigures.Of(b).Single().Percent));
    }

    [Fact]
    public void A_part_another_version_another_window_and_unpublished_prompts_are_said()
    {
        string[] Caveats(string benchmark, int present, int outside, int counted) =>
            [.. PublishedFigures.Caveats(benchmark, new ScoreBasis(present, outside, 4, 4, 1), counted)];
        Assert.Equal(["the data hold 82 tasks of 164: a part of the benchmark"], Caveats("humaneval", 82, 0, 82));
        Assert.Empty(Caveats("humaneval", 164, 0, 164));
        Assert.Equal("the data hold 82 tasks of 164: the comparison is on a part of the benchmark", Caveats("humaneval-pro", 82, 0, 82)[0]);
        Assert.Equal(
            "the data hold 399 tasks of 378: the comparison is on another version of the benchmark", Caveats("mbpp+", 399, 0, 399)[0]);
        Assert.Equal(
            ["139 of the 148 tasks in the data count: the comparison is on those"], Caveats("bigcodebench-hard-complete", 148, 0, 139));
        Assert.Contains("prompts", Assert.Single(Caveats("humaneval+", 164, 0, 164)));
        Assert.Equal(3, Caveats("livecodebench", 500, 420, 500).Length);
        Assert.Equal("420 of the 500 tasks in the data are outside that window", Caveats("livecodebench", 500, 420, 500)[1]);
        Assert.Contains("18 s and took the first block", Caveats("livecodebench", 80, 0, 80)[1]);

        DateOnly?[] days = [new(2024, 7, 31), new(2024, 8, 1), new(2024, 11, 1), new(2024, 11, 2), null];
        BenchmarkTask[] tasks = [.. days.Select((day, i) => new BenchmarkTask { TaskId = $"{i}", Date = day })];
        Assert.Equal(2, PublishedFigures.OutsideWindow("livecodebench", tasks));
        Assert.Equal(0, PublishedFigures.OutsideWindow("humaneval", tasks));
    }
}
