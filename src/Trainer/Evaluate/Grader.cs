using System.Diagnostics;
using System.Text.Encodings.Web;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// Grades samples in the sandbox. First every reference solution takes the same path as the samples: a task whose reference fails says nothing
/// about a model, and the reference's time on this machine, now, anchors the time limit max(floor, factor · reference). Then the samples run, one
/// program per core. What timed out is run again alone, when no other program runs, and only that verdict counts: a slow or busy machine must not
/// look like a worse model.
/// </summary>
public sealed class Grader
{
    private const int ErrorKept = 2000;                 // characters of standard error in the details, from its end
    private const int NamesShown = 10;

    private static readonly JsonWriterOptions s_plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly Sandbox _sandbox;
    private readonly EvaluationOptions _options;
    private readonly Dictionary<string, HumanEvalTask> _tasks;
    private readonly StreamWriter? _details;
    private int _again;
    private int _changed;

    private Grader(IReadOnlyList<HumanEvalTask> tasks, EvaluationOptions options, StreamWriter? details)
    {
        _options = options;
        _details = details;
        _tasks = tasks.ToDictionary(t => t.TaskId, StringComparer.Ordinal);
        _sandbox = options.Sandbox ?? Sandbox.Create();
    }

    /// <summary>Grades <paramref name="samples"/> against <paramref name="tasks"/>.</summary>
    /// <exception cref="InvalidInputException">A sample names no task, a task has no sample, or a reference fails and the options say stop.</exception>
    /// <exception cref="SandboxException">Programs cannot be confined here.</exception>
    public static async Task<EvaluationSummary> EvaluateAsync(
        IReadOnlyList<HumanEvalTask> tasks, IReadOnlyList<Sample> samples, EvaluationOptions options, CancellationToken cancellation = default)
    {
        CheckNames(tasks, samples, options);
        await using var details = options.DetailsPath is null ? null : Create(options.DetailsPath);
        return await new Grader(tasks, options, details).RunAsync(tasks, samples, cancellation);
    }

    private static void CheckNames(IReadOnlyList<HumanEvalTask> tasks, IReadOnlyList<Sample> samples, EvaluationOptions options)
    {
        var known = tasks.Select(t => t.TaskId).ToHashSet(StringComparer.Ordinal);
        if (samples.FirstOrDefault(s => !known.Contains(s.TaskId)) is { } stray)
        {
            throw new InvalidInputException($"A sample answers \"{stray.TaskId}\", which is not among the {tasks.Count} tasks; check that both are of one benchmark.");
        }

        var answered = samples.Select(s => s.TaskId).ToHashSet(StringComparer.Ordinal);
        var missing = tasks.Where(t => !answered.Contains(t.TaskId)).Select(t => t.TaskId).ToList();
        if (answered.Count == 0 || (missing.Count > 0 && !options.AllowMissing))
        {
            throw new InvalidInputException(
                $"{missing.Count} of {tasks.Count} tasks have no sample ({Names(missing)}); every task needs one, or a partial run must be allowed.");
        }
    }

    private static string Names(List<string> names) =>
        string.Join(", ", names.Take(NamesShown)) + (names.Count > NamesShown ? $" and {names.Count - NamesShown} more" : "");

    private static StreamWriter Create(string path)
    {
        try
        {
            return new StreamWriter(path, append: false) { AutoFlush = true, NewLine = "\n" };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"{path} cannot be written: {e.Message}", e);
        }
    }

    private async Task<EvaluationSummary> RunAsync(IReadOnlyList<HumanEvalTask> tasks, IReadOnlyList<Sample> samples, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        var answered = samples.Select(s => s.TaskId).ToHashSet(StringComparer.Ordinal);
        var used = tasks.Where(t => answered.Contains(t.TaskId)).ToList();
        var (seconds, excluded) = await CheckReferencesAsync([.. used.Where(t => t.CanonicalSolution is not null)], cancellation);
        (_again, _changed) = (0, 0);

        var counted = samples.Where(s => !excluded.Contains(s.TaskId)).ToList();
        var ordinals = new int[counted.Count];
        var seen = new Dictionary<string, int>(StringComparer.Ordinal);
        var runs = new List<Job>(counted.Count);
        for (var i = 0; i < counted.Count; i++)
        {
            var (sample, task) = (counted[i], _tasks[counted[i].TaskId]);
            ordinals[i] = seen[sample.TaskId] = seen.TryGetValue(sample.TaskId, out var last) ? last + 1 : 0;
            var limit = Math.Max(_options.FloorSeconds, _options.ReferenceFactor * seconds.GetValueOrDefault(sample.TaskId));
            runs.Add(new Job(sample.TaskId, ordinals[i], HumanEvalProgram.Build(task, sample.Code, sample.Mode), limit));
        }

        var results = await RunAllAsync(runs, cancellation);
        WriteResults(counted, ordinals, results);
        return Summarize([.. used.Where(t => !excluded.Contains(t.TaskId))], [.. excluded], counted, results, clock.Elapsed.TotalSeconds);
    }

    private async Task<(Dictionary<string, double> Seconds, HashSet<string> Excluded)> CheckReferencesAsync(
        List<HumanEvalTask> tasks, CancellationToken cancellation)
    {
        var jobs = tasks.Select(
            t => new Job(t.TaskId, -1, HumanEvalProgram.Build(t, t.CanonicalSolution!, CompletionMode.Continuation), _options.ReferenceSeconds));
        var results = await RunAllAsync([.. jobs], cancellation);
        var seconds = new Dictionary<string, double>(StringComparer.Ordinal);
        var failing = new List<int>();
        for (var i = 0; i < tasks.Count; i++)
        {
            seconds[tasks[i].TaskId] = results[i].WallSeconds;
            if (results[i].Outcome != SandboxOutcome.Passed)
            {
                failing.Add(i);
            }
        }

        if (failing.Count > 0 && _options.Reference == ReferenceCheck.Stop)
        {
            var first = results[failing[0]];
            throw new InvalidInputException(
                $"The reference solution fails its own tests in {failing.Count} of {tasks.Count} tasks: {Names([.. failing.Select(i => tasks[i].TaskId)])} "
                + $"(the first: {first.Outcome}, {LastLine(first.Stderr)}); correct the tasks or exclude them.");
        }

        return (seconds, failing.Select(i => tasks[i].TaskId).ToHashSet(StringComparer.Ordinal));
    }

    private async Task<SandboxResult[]> RunAllAsync(List<Job> jobs, CancellationToken cancellation)
    {
        var results = new SandboxResult[jobs.Count];
        var workers = _options.Workers > 0 ? _options.Workers : Environment.ProcessorCount;
        var parallel = new ParallelOptions { MaxDegreeOfParallelism = workers, CancellationToken = cancellation };
        await Parallel.ForAsync(0, jobs.Count, parallel, async (i, token) => results[i] = await RunOneAsync(jobs[i], alone: false, token));
        for (var i = 0; i < jobs.Count; i++)
        {
            if (results[i].Outcome == SandboxOutcome.TimedOut)
            {
                results[i] = await RunOneAsync(jobs[i], alone: true, cancellation);
                _again++;
                _changed += results[i].Outcome == SandboxOutcome.TimedOut ? 0 : 1;
            }
        }

        return results;
    }

    private async Task<SandboxResult> RunOneAsync(Job job, bool alone, CancellationToken cancellation)
    {
        var limits = _options.Limits with { WallSeconds = job.Seconds, CpuSeconds = job.Seconds };
        var result = await _sandbox.RunAsync(job.Program, limits, cancellation);
        if (_details is not null)
        {
            var line = Line(json =>
            {
                json.WriteString("task_id", job.TaskId);
                json.WriteString("run", job.Ordinal < 0 ? "reference" : alone ? "alone" : "sample");
                json.WriteNumber("sample", Math.Max(0, job.Ordinal));
                json.WriteString("outcome", result.Outcome.ToString());
                json.WriteNumber("exit_code", result.ExitCode);
                json.WriteNumber("limit_seconds", job.Seconds);
                json.WriteNumber("wall_seconds", Math.Round(result.WallSeconds, 4));
                json.WriteNumber("cpu_seconds", Math.Round(result.CpuSeconds, 4));
                json.WriteString("stderr", End(result.Stderr));
            });
            lock (_details)
            {
                _details.WriteLine(line);
            }
        }

        return result;
    }

    private void WriteResults(List<Sample> samples, int[] ordinals, SandboxResult[] results)
    {
        if (_options.ResultsPath is not { } path)
        {
            return;
        }

        // Beside the final name and then renamed: a file of that name is always whole.
        using (var file = Create(path + ".partial"))
        {
            for (var i = 0; i < samples.Count; i++)
            {
                var at = i;
                file.WriteLine(Line(json =>
                {
                    json.WriteString("task_id", samples[at].TaskId);
                    json.WriteNumber("sample", ordinals[at]);
                    json.WriteBoolean("passed", results[at].Outcome == SandboxOutcome.Passed);
                    json.WriteString("outcome", results[at].Outcome.ToString());
                }));
            }
        }

        File.Move(path + ".partial", path, overwrite: true);
    }

    private EvaluationSummary Summarize(
        List<HumanEvalTask> tasks, List<string> excluded, List<Sample> samples, SandboxResult[] results, double seconds)
    {
        var counts = tasks.ToDictionary(t => t.TaskId, _ => (Samples: 0, Passed: 0), StringComparer.Ordinal);
        for (var i = 0; i < samples.Count; i++)
        {
            var (all, passed) = counts[samples[i].TaskId];
            counts[samples[i].TaskId] = (all + 1, passed + (results[i].Outcome == SandboxOutcome.Passed ? 1 : 0));
        }

        var scores = tasks.Select(t => new TaskScore(t.TaskId, t.Kind, counts[t.TaskId].Samples, counts[t.TaskId].Passed)).ToList();
        var fewest = scores.Count == 0 ? 0 : scores.Min(s => s.Samples);
        var (mean, interval) = Score(scores);
        return new EvaluationSummary
        {
            PassAt1 = mean,
            Interval = interval,
            PassAt = _options.K.Where(k => k >= 1 && k <= fewest).Distinct().Order()
                .ToDictionary(k => k, k => PassAtK.Mean([.. scores.Select(s => PassAtK.Of(s.Samples, s.Passed, k))])),
            Outcomes = results.GroupBy(r => r.Outcome).OrderBy(g => g.Key).ToDictionary(g => g.Key, g => g.Count()),
            Kinds = [.. scores.Where(s => s.Kind is not null).GroupBy(s => s.Kind!, StringComparer.Ordinal).Select(group =>
            {
                var (groupMean, groupInterval) = Score([.. group]);
                return new KindScore(group.Key, group.Count(), groupMean, groupInterval);
            })],
            Tasks = scores,
            Excluded = [.. excluded.Order(StringComparer.Ordinal)],
            WithoutReference = tasks.Count(t => t.CanonicalSolution is null),
            RunAgainAlone = _again,
            ChangedVerdicts = _changed,
            Seconds = seconds,
        };
    }

    private (double Mean, Interval Interval) Score(List<TaskScore> scores)
    {
        double[] values = [.. scores.Select(s => PassAtK.Of(s.Samples, s.Passed, 1))];
        return (PassAtK.Mean(values), scores.TrueForAll(s => s.Samples == 1)
            ? PassAtK.Wilson(scores.Sum(s => s.Passed), scores.Count)
            : PassAtK.Bootstrap(values, _options.Seed));
    }

    // From the end, and never starting inside a surrogate pair, which JSON could not hold.
    private static string End(string text)
    {
        var from = Math.Max(0, text.Length - ErrorKept);
        return text[(from > 0 && char.IsLowSurrogate(text[from]) ? from + 1 : from)..];
    }

    private static string LastLine(string text) => text.TrimEnd().Split('\n')[^1] is { Length: > 0 } line ? line : "no message";

    private static string Line(Action<Utf8JsonWriter> fields)
    {
        var buffer = new System.Buffers.ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, s_plain))
        {
            json.WriteStartObject();
            fields(json);
            json.WriteEndObject();
        }

        return System.Text.Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    private sealed record Job(string TaskId, int Ordinal, SandboxProgram Program, double Seconds);
}
