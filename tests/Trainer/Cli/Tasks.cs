using System.Text.Json;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>Toy benchmarks in HumanEval's format: f(x) returns x + i.</summary>
internal static class Tasks
{
    public static void Write(string path, int count) => File.WriteAllLines(path, Enumerable.Range(0, count).Select(i => JsonSerializer.Serialize(
        new Dictionary<string, string>
        {
            ["task_id"] = $"T/{i}", ["kind"] = i % 2 == 0 ? "even" : "odd", ["prompt"] = $"def f(x):\n    '''x + {i}'''\n", ["entry_point"] = "f",
            ["test"] = $"def check(c):\n    assert c(1) == {i + 1}\n", ["canonical_solution"] = $"    return x + {i}\n",
        })));

    /// <summary>Saved answers: right for the first so many tasks, wrong for the others.</summary>
    public static void WriteAnswers(string path, int count, int right) => File.WriteAllLines(path, Enumerable.Range(0, count).Select(i => JsonSerializer.Serialize(
        new Dictionary<string, string> { ["task_id"] = $"T/{i}", ["solution"] = $"def f(x):\n    return x + {(i < right ? i : i + 1)}\n" })));
}
