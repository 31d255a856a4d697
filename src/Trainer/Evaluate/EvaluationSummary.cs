using System.Text.Json;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>What an evaluation found.</summary>
public sealed record EvaluationSummary
{
    /// <summary>Mean pass@1 over the tasks that count.</summary>
    public required double PassAt1 { get; init; }

    /// <summary>95 % interval of it: Wilson's with one sample per task, else the seeded bootstrap over tasks.</summary>
    public required Interval Interval { get; init; }

    /// <summary>pass@k for each k asked for that every task has samples enough for.</summary>
    public required IReadOnlyDictionary<int, double> PassAt { get; init; }

    /// <summary>Samples per outcome; outcomes that did not occur are absent.</summary>
    public required IReadOnlyDictionary<SandboxOutcome, int> Outcomes { get; init; }

    /// <summary>Per group, in the order in which the groups first occur; empty when no task has a kind.</summary>
    public required IReadOnlyList<KindScore> Kinds { get; init; }

    /// <summary>Per task that counts, in the order of the tasks.</summary>
    public required IReadOnlyList<TaskScore> Tasks { get; init; }

    /// <summary>Tasks left out because their reference solution failed.</summary>
    public required IReadOnlyList<string> Excluded { get; init; }

    /// <summary>Tasks whose tests could not be checked because they have no reference solution.</summary>
    public required int WithoutReference { get; init; }

    /// <summary>Tasks that need Python packages which are not installed: neither run nor counted.</summary>
    public IReadOnlyList<NotRunnableTask> NotRunnable { get; init; } = [];

    /// <summary>Samples that failed because they import a package which is not installed, by package.</summary>
    public IReadOnlyDictionary<string, int> MissingPackages { get; init; } = new Dictionary<string, int>();

    /// <summary>Samples whose outcome an earlier run had found.</summary>
    public int FromJournal { get; init; }

    /// <summary>Time-outs that were run again alone.</summary>
    public required int RunAgainAlone { get; init; }

    /// <summary>Those among them that ended otherwise when they had the machine to themselves.</summary>
    public required int ChangedVerdicts { get; init; }

    /// <summary>Elapsed seconds of the whole evaluation.</summary>
    public required double Seconds { get; init; }

    /// <summary>Writes the properties `kinds` (pass@1 of each) and `outcomes` (samples of each) into an open object.</summary>
    internal void WriteGroups(Utf8JsonWriter json)
    {
        json.WriteStartObject("kinds");
        foreach (var kind in Kinds)
        {
            json.WriteNumber(kind.Kind, kind.PassAt1);
        }

        json.WriteEndObject();
        json.WriteStartObject("outcomes");
        foreach (var (outcome, count) in Outcomes)
        {
            json.WriteNumber(outcome.ToString(), count);
        }

        json.WriteEndObject();
    }
}
