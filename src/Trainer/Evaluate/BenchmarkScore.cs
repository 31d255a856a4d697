using System.Text.Json;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>What one benchmark says about a file of answers, or about its own reference solutions.</summary>
public sealed record BenchmarkScore
{
    private BenchmarkScore()
    {
    }

    /// <summary>The benchmark.</summary>
    public required Benchmark Benchmark { get; init; }

    /// <summary>True when the samples were the reference solutions.</summary>
    public required bool OfReferences { get; init; }

    /// <summary>Of the answers as they are.</summary>
    public required EvaluationSummary Plain { get; init; }

    /// <summary>Of the answers cut after the solution, where the benchmark asks for that and it changed some.</summary>
    public required EvaluationSummary? Sanitized { get; init; }

    /// <summary>Tasks without a reference solution; they are absent from a run over the references.</summary>
    public required int WithoutReference { get; init; }

    /// <summary>On which tasks and under which limits.</summary>
    public required ScoreBasis Basis { get; init; }

    /// <summary>The one that counts: the higher.</summary>
    public EvaluationSummary Summary => Sanitized is { } cut && cut.PassAt1 > Plain.PassAt1 ? cut : Plain;

    /// <summary>False when a reference solution fails.</summary>
    public bool Holds => !OfReferences || Summary.Tasks.All(t => t.Passed == t.Samples);

    /// <summary>Grades <paramref name="samples"/>, or the reference solutions where they are null.</summary>
    public static async Task<BenchmarkScore> OfAsync(
        Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<Sample>? samples, EvaluationOptions options, CancellationToken cancellation)
    {
        var withReference = tasks.Where(t => t.Reference is not null).ToList();
        if (samples is null)
        {
            var plain = withReference.Count == 0
                ? Nothing()
                : await Grader.EvaluateAsync(
                    benchmark, withReference, [.. withReference.Select(t => new Sample(t.TaskId, t.Reference!, CompletionMode.Program))],
                    options with { Reference = ReferenceCheck.Skip }, cancellation);
            return new BenchmarkScore
            {
                Benchmark = benchmark, OfReferences = true, Plain = plain, Sanitized = null, WithoutReference = tasks.Count - withReference.Count,
                Basis = ScoreBasis.Of(benchmark, tasks, options),
            };
        }

        var known = tasks.Select(t => t.TaskId).ToHashSet(StringComparer.Ordinal);
        List<Sample> within = [.. samples.Where(s => known.Contains(s.TaskId))];
        var (summary, sanitized) = await Grader.EvaluateAsync(benchmark, tasks, within, options, alsoCut: true, cancellation);
        return Of(benchmark, tasks, options, summary, sanitized);
    }

    /// <summary>Of graded answers.</summary>
    internal static BenchmarkScore Of(
        Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, EvaluationOptions options, EvaluationSummary plain, EvaluationSummary? sanitized) => new()
    {
        Benchmark = benchmark, OfReferences = false, Plain = plain, Sanitized = sanitized, WithoutReference = 0,
        Basis = ScoreBasis.Of(benchmark, tasks, options),
    };

    /// <summary>What a reader must know beside the figure, one sentence each.</summary>
    /// <param name="names">Names of tasks shown at most.</param>
    public IEnumerable<string> Notes(int names)
    {
        var summary = Summary;
        yield return string.Join(", ", summary.Outcomes.Select(o => $"{o.Key} {o.Value}"))
            + $"; run again alone {summary.RunAgainAlone}, verdicts changed by it {summary.ChangedVerdicts}; known from the journal {summary.FromJournal}; {summary.Seconds:F1} s";
        var failing = summary.Tasks.Where(t => t.Passed < t.Samples).Select(t => t.TaskId).ToList();
        if (OfReferences && failing.Count > 0)
        {
            yield return $"{failing.Count} reference solutions fail: {Some(failing, names)}";
        }

        if (OfReferences && WithoutReference > 0)
        {
            yield return $"{WithoutReference} tasks have no reference solution";
        }

        if (summary.Excluded.Count > 0)
        {
            yield return $"{summary.Excluded.Count} tasks do not count because their reference solution fails here: {Some(summary.Excluded, names)}";
        }

        if (summary.NotRunnable.Count > 0)
        {
            var needs = summary.NotRunnable.SelectMany(t => t.Needs).Distinct().Order(StringComparer.Ordinal).ToList();
            yield return $"{summary.NotRunnable.Count} tasks are not runnable here (needs {Some(needs, names)}): {Some([.. summary.NotRunnable.Select(t => t.TaskId)], names)}";
        }

        if (summary.MissingPackages.Count > 0)
        {
            yield return "answers failed because a package is not installed here: " + string.Join(", ", summary.MissingPackages.Select(p => $"{p.Key} {p.Value}"));
        }
    }

    /// <summary>Writes an object.</summary>
    /// <param name="json">Where.</param>
    /// <param name="withRun">With what <see cref="WriteRun"/> writes.</param>
    public void Write(Utf8JsonWriter json, bool withRun = true)
    {
        var summary = Summary;
        json.WriteStartObject();
        json.WriteString("benchmark", Benchmark.Name);
        json.WriteBoolean("reference", OfReferences);
        Number(json, "pass_at_1", summary.PassAt1);
        json.WriteNumber("low", summary.Interval.Low);
        json.WriteNumber("high", summary.Interval.High);
        json.WriteNumber("tasks", summary.Tasks.Count);
        json.WriteNumber("tasks_present", Basis.Present);
        if (PublishedFigures.TasksOf(Benchmark.Name) is { } whole)
        {
            json.WriteNumber("tasks_published", whole);
        }
        else
        {
            json.WriteNull("tasks_published");
        }

        json.WriteNumber("solved", summary.Tasks.Count(t => t.Passed == t.Samples));
        json.WriteStartObject("pass_at");
        foreach (var (k, value) in summary.PassAt)
        {
            json.WriteNumber(k.ToString(System.Globalization.CultureInfo.InvariantCulture), value);
        }

        json.WriteEndObject();
        summary.WriteGroups(json);
        if (Sanitized is { } cut)
        {
            Number(json, "pass_at_1_as_answered", Plain.PassAt1);
            Number(json, "pass_at_1_cut", cut.PassAt1);
        }

        Names(json, "failed", summary.Tasks.Where(t => t.Passed < t.Samples).Select(t => t.TaskId));
        Names(json, "excluded", summary.Excluded);
        json.WriteStartObject("not_runnable");
        foreach (var task in summary.NotRunnable)
        {
            Names(json, task.TaskId, task.Needs);
        }

        json.WriteEndObject();
        json.WriteNumber("without_reference", OfReferences ? WithoutReference : summary.WithoutReference);
        if (withRun)
        {
            WriteRun(json);
        }

        json.WriteStartObject("published_percent");
        foreach (var figure in PublishedFigures.Of(Benchmark.Name))
        {
            json.WriteNumber(figure.Model, figure.Percent);
        }

        json.WriteEndObject();
        json.WriteStartArray("published");
        foreach (var figure in PublishedFigures.Of(Benchmark.Name))
        {
            json.WriteStartObject();
            json.WriteString("model", figure.Model);
            json.WriteNumber("percent", figure.Percent);
            json.WriteString("source", figure.Source);
            json.WriteStartObject("kinds");
            foreach (var (kind, percent) in figure.Kinds ?? new Dictionary<string, double>())
            {
                json.WriteNumber(kind, percent);
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        Names(json, "caveats", PublishedFigures.Caveats(Benchmark.Name, Basis, summary.Tasks.Count));
        json.WriteStartArray("kind_scores");
        foreach (var kind in summary.Kinds)
        {
            json.WriteStartObject();
            json.WriteString("kind", kind.Kind);
            json.WriteNumber("tasks", kind.Tasks);
            json.WriteNumber("pass_at_1", kind.PassAt1);
            json.WriteNumber("low", kind.Interval.Low);
            json.WriteNumber("high", kind.Interval.High);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        Basis.WriteLimits(json);
        json.WriteEndObject();
    }

    /// <summary>Writes the properties that differ from run to run into an open object: what was run again, found, and how long it
    /// took.</summary>
    public void WriteRun(Utf8JsonWriter json)
    {
        json.WriteNumber("run_again_alone", Summary.RunAgainAlone);
        json.WriteNumber("changed_verdicts", Summary.ChangedVerdicts);
        json.WriteNumber("from_journal", Summary.FromJournal);
        json.WriteNumber("seconds", Math.Round(Summary.Seconds, 2));
    }

    private static string Some(IReadOnlyList<string> all, int most) =>
        string.Join(", ", all.Take(most)) + (all.Count > most ? $" and {all.Count - most} more" : "");

    private static void Number(Utf8JsonWriter json, string name, double value)
    {
        if (double.IsNaN(value))
        {
            json.WriteNull(name);                       // no task counts; JSON has no such number
        }
        else
        {
            json.WriteNumber(name, value);
        }
    }

    private static void Names(Utf8JsonWriter json, string name, IEnumerable<string> values)
    {
        json.WriteStartArray(name);
        foreach (var value in values)
        {
            json.WriteStringValue(value);
        }

        json.WriteEndArray();
    }

    private static EvaluationSummary Nothing() => new()
    {
        PassAt1 = double.NaN, Interval = new Interval(0, 1), PassAt = new Dictionary<int, double>(), Outcomes = new Dictionary<SandboxOutcome, int>(),
        Kinds = [], Tasks = [], Excluded = [], WithoutReference = 0, RunAgainAlone = 0, ChangedVerdicts = 0, Seconds = 0,
    };
}
