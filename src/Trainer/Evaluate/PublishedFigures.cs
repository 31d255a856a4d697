using System.Globalization;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// What the Z1-Coder project published for its models and for Qwen2.5-Coder-Instruct, whole benchmarks, pass@1: its table of results
/// (assets/res1.png), and of BigCodeBench-Instruct its results.json. LiveCodeBench is from 2024-08-01 to 2024-11-01 with 10 samples at
/// temperature 0.2, the others are greedy. A benchmark that neither file has is not here. Prompts of HumanEval+, MBPP+ and the Pro
/// benchmarks are not in that repository: an offset of a few points may come from them.
/// </summary>
public static class PublishedFigures
{
    private const string Table = "Z1-Coder/Z1-Coder:assets/res1.png", Results = "Z1-Coder/Z1-Coder:results.json";
    private const string LiveCodeBench = "livecodebench";

    private static readonly DateOnly s_first = new(2024, 8, 1), s_last = new(2024, 11, 1);

    private static readonly string[] s_models =
        ["Z1-Coder-1.5B", "Qwen2.5-Coder-1.5B-Instruct", "Z1-Coder-7B", "Qwen2.5-Coder-7B-Instruct"];

    private static readonly Dictionary<string, double[]> s_percent = new(StringComparer.Ordinal)
    {
        ["humaneval+"] = [72.0, 66.5, 84.1, 84.1],
        ["humaneval-pro"] = [51.2, 33.5, 69.5, 65.9],
        ["mbpp+"] = [61.9, 59.4, 71.2, 71.7],
        ["mbpp-pro"] = [53.2, 42.1, 65.8, 64.8],
        [LiveCodeBench] = [11.3, 8.7, 20.7, 18.4],
        ["bigcodebench-complete"] = [39.6, 32.7, 51.4, 48.8],
        ["bigcodebench-hard-complete"] = [14.9, 6.1, 25.7, 20.3],
    };

    private static readonly double[][] s_byDifficulty = [[37.3, 8.1, 0], [24.6, 8.9, 0], [60.8, 20.0, 0], [60.4, 13.2, 0]];

    private static readonly Dictionary<string, PublishedFigure> s_instruct = new(StringComparer.Ordinal)
    {
        ["bigcodebench-instruct"] = new("Z1-Coder-7B", 38.33, Results),
        ["bigcodebench-hard-instruct"] = new("Z1-Coder-7B", 18.24, Results),
    };

    private static readonly Dictionary<string, int> s_tasks = new(StringComparer.Ordinal)
    {
        ["humaneval"] = 164,
        ["humaneval+"] = 164,
        ["humaneval-pro"] = 164,
        ["mbpp+"] = 378,
        ["mbpp-pro"] = 378,
        ["bigcodebench-lite-pro"] = 57,
        ["bigcodebench-complete"] = 1140,
        ["bigcodebench-instruct"] = 1140,
        ["bigcodebench-hard-complete"] = 148,
        ["bigcodebench-hard-instruct"] = 148,
    };

    /// <summary>The models, in the order of the table.</summary>
    public static IReadOnlyList<string> Models => s_models;

    /// <summary>Figures of a benchmark, in the order of the models; empty where none were published.</summary>
    public static IReadOnlyList<PublishedFigure> Of(string benchmark) =>
        s_percent.TryGetValue(benchmark, out var percent)
            ? [.. percent.Select((p, i) => new PublishedFigure(s_models[i], p, Table, benchmark == LiveCodeBench ? Difficulties(i) : null))]
            : s_instruct.TryGetValue(benchmark, out var one) ? [one] : [];

    /// <summary>Tasks of the whole benchmark; null where that depends on the version or the window of dates.</summary>
    public static int? TasksOf(string benchmark) => s_tasks.TryGetValue(benchmark, out var tasks) ? tasks : null;

    /// <summary>Tasks outside the window of dates of the published figures; those whose file states no date are not.</summary>
    public static int OutsideWindow(string benchmark, IEnumerable<BenchmarkTask> tasks) =>
        benchmark == LiveCodeBench ? tasks.Count(t => t.Date < s_first || t.Date > s_last) : 0;

    /// <summary>Why a figure and the published ones are not of the same tasks or the same protocol, one sentence each.</summary>
    /// <param name="benchmark">Its name.</param>
    /// <param name="basis">On what the figure rests.</param>
    /// <param name="counted">Tasks that the figure is the mean of.</param>
    public static IEnumerable<string> Caveats(string benchmark, ScoreBasis basis, int counted)
    {
        var published = Of(benchmark).Count > 0;
        if (TasksOf(benchmark) is { } whole && basis.Present != whole)
        {
            var what = basis.Present < whole ? "a part" : "another version";
            yield return $"the data hold {N(basis.Present)} tasks of {N(whole)}: {(published ? "the comparison is on " : "")}{what} "
                + "of the benchmark";
        }

        if (counted < basis.Present)
        {
            var those = published ? ": the comparison is on those" : "";
            yield return $"{N(counted)} of the {N(basis.Present)} tasks in the data count{those}";
        }

        if (published && benchmark == LiveCodeBench)
        {
            yield return $"the published figures are of the problems from {s_first:yyyy-MM-dd} to {s_last:yyyy-MM-dd}, whose number is not "
                + "published, with 10 samples at temperature 0.2";
            if (basis.OutsideWindow > 0)
            {
                yield return $"{N(basis.OutsideWindow)} of the {N(basis.Present)} tasks in the data are outside that window";
            }

            yield return "the published run asked in words of its own, gave each test 18 s and took the first block of code: here all three are "
                + "LiveCodeBench's own (6 s, the last block)";
        }
        else if (benchmark is "humaneval+" or "mbpp+" or "humaneval-pro" or "mbpp-pro")
        {
            yield return "the prompts of the published runs are not published: an offset of a few points may come from them";
        }
    }

    private static string N(int value) => value.ToString(CultureInfo.InvariantCulture);

    private static Dictionary<string, double> Difficulties(int model) => new(StringComparer.Ordinal)
    {
        ["easy"] = s_byDifficulty[model][0],
        ["medium"] = s_byDifficulty[model][1],
        ["hard"] = s_byDifficulty[model][2],
    };
}
