namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// What the Z1-Coder project published for its models and for Qwen2.5-Coder-Instruct (Z1-Coder/Z1-Coder, assets/res1.png): whole benchmarks,
/// LiveCodeBench from 2024-08-01 to 2024-11-01 with 10 samples at temperature 0.2, the others greedy. Prompts of HumanEval+, MBPP+ and the Pro
/// benchmarks are not in its repository: an offset of a few points may come from them.
/// </summary>
public static class PublishedFigures
{
    private static readonly string[] s_models = ["Z1-Coder-1.5B", "Qwen2.5-Coder-1.5B-Instruct", "Z1-Coder-7B", "Qwen2.5-Coder-7B-Instruct"];

    private static readonly Dictionary<string, double[]> s_percent = new(StringComparer.Ordinal)
    {
        ["humaneval+"] = [72.0, 66.5, 84.1, 84.1],
        ["humaneval-pro"] = [51.2, 33.5, 69.5, 65.9],
        ["mbpp+"] = [61.9, 59.4, 71.2, 71.7],
        ["mbpp-pro"] = [53.2, 42.1, 65.8, 64.8],
        ["livecodebench"] = [11.3, 8.7, 20.7, 18.4],
        ["bigcodebench-complete"] = [39.6, 32.7, 51.4, 48.8],
        ["bigcodebench-hard-complete"] = [14.9, 6.1, 25.7, 20.3],
    };

    private static readonly double[][] s_byDifficulty = [[37.3, 8.1, 0], [24.6, 8.9, 0], [60.8, 20.0, 0], [60.4, 13.2, 0]];

    /// <summary>The models, in the order of the figures.</summary>
    public static IReadOnlyList<string> Models => s_models;

    /// <summary>Figures of a benchmark; empty where none were published.</summary>
    public static IReadOnlyList<PublishedFigure> Of(string benchmark) =>
        s_percent.TryGetValue(benchmark, out var percent)
            ? [.. percent.Select((p, i) => new PublishedFigure(s_models[i], p, benchmark == "livecodebench" ? Difficulties(i) : null))]
            : [];

    private static Dictionary<string, double> Difficulties(int model) => new(StringComparer.Ordinal)
    {
        ["easy"] = s_byDifficulty[model][0],
        ["medium"] = s_byDifficulty[model][1],
        ["hard"] = s_byDifficulty[model][2],
    };
}
