using System.Text.Json;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>On which tasks and under which limits a figure was found: two figures are of one kind when these agree.</summary>
/// <param name="Present">Tasks that the data hold, after a window of dates.</param>
/// <param name="OutsideWindow">Tasks among them outside the window of dates of the published figures.</param>
/// <param name="FloorSeconds">Least time limit.</param>
/// <param name="ReferenceFactor">Time limit as a multiple of the reference's time.</param>
/// <param name="MemoryBytes">Memory limit.</param>
public sealed record ScoreBasis(int Present, int OutsideWindow, double FloorSeconds, double ReferenceFactor, long MemoryBytes)
{
    /// <summary>Of a run of the grader.</summary>
    public static ScoreBasis Of(Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, EvaluationOptions options) =>
        new(tasks.Count, PublishedFigures.OutsideWindow(benchmark.Name, tasks), options.FloorSeconds, options.ReferenceFactor, options.Limits.MemoryBytes);

    /// <summary>Writes the property `limits` into an open object.</summary>
    internal void WriteLimits(Utf8JsonWriter json)
    {
        json.WriteStartObject("limits");
        json.WriteNumber("floor_seconds", FloorSeconds);
        json.WriteNumber("reference_factor", ReferenceFactor);
        json.WriteNumber("memory_bytes", MemoryBytes);
        json.WriteEndObject();
    }
}
