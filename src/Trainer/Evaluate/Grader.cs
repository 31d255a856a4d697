using System.Diagnostics;
using System.Globalization;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate.Benchmarks;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// Grades samples in the sandbox. First every reference solution takes the same path as the samples: a task whose reference fails says nothing
/// about a model, and the reference's time on this machine, now, anchors the time limit. Then the samples run, one
/// program per core. What timed out is run again alone, when no other program runs, and only that verdict counts: a slow or busy machine must not
/// look like a worse model.
/// </summary>
public sealed class Grader
{
    private const int ErrorKept = 2000;                 // characters of standard error in the details, from its end
    private const int NamesShown = 10;

    private readonly Benchmark _benchmark;
    private readonly EvaluationOptions _options;
    private readonly Sandbox _sandbox;
    private readonly Dictionary<string, BenchmarkTask> _tasks;
    private readonly StreamWriter? _details;
    private readonly OutcomeJournal? _journal;
    private int _again;
    private int _changed;

    private Grader(Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, EvaluationOptions options, StreamWriter? details, OutcomeJournal? journal)
    {
        (_benchmark, _options, _details, _journal) = (benchmark, options, details, journal);
        _tasks = tasks.ToDictionary(t => t.TaskId, StringComparer.Ordinal);
        _sandbox = options.Sandbox ?? Sandbox.Create();
    }

    /// <summary>Grades <paramref name="samples"/> against <paramref name="tasks"/> in HumanEval's format.</summary>
    /// <exception cref="InvalidInputException">A sample names no task, a task has no sample, or a reference fails and the options say stop.</exception>
    /// <exception cref="SandboxException">Programs cannot be confined here.</exception>
    public static Task<EvaluationSummary> EvaluateAsync(
        IReadOnlyList<HumanEvalTask> tasks, IReadOnlyList<Sample> samples, EvaluationOptions options, CancellationToken cancellation = default) =>
        EvaluateAsync(new HumanEvalBenchmark(), [.. tasks.Select(HumanEvalBenchmark.TaskOf)], samples, options, cancellation);

    /// <summary>Grades <paramref name="samples"/> against <paramref name="tasks"/> of a benchmark.</summary>
    /// <exception cref="InvalidInputException">A sample names no task, a task has no sample, or a reference fails and the options say stop.</exception>
    /// <exception cref="SandboxException">Programs cannot be confined here.</exception>
    public static async Task<EvaluationSummary> EvaluateAsync(
        Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<Sample> samples, EvaluationOptions options, CancellationToken cancellation = default)
    {
        CheckNames(tasks, samples, options);
        await using var details = options.DetailsPath is null ? null : Create(options.DetailsPath);
        using var journal = options.JournalPath is null ? null : OutcomeJournal.Open(options.JournalPath);
        return await new Grader(benchmark, tasks, options, details, journal).RunAsync(tasks, samples, cancellation);
    }

    private static void CheckNames(IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<Sample> samples, EvaluationOptions options)
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

    private async Task<EvaluationSummary> RunAsync(IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<Sample> samples, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        var answered = samples.Select(s => s.TaskId).ToHashSet(StringComparer.Ordinal);
        var used = tasks.Where(t => answered.Contains(t.TaskId)).ToList();
        var unable = await NotRunnableAsync(used, cancellation);
        used.RemoveAll(t => unable.ContainsKey(t.TaskId));

        var jobs = new List<Job>(samples.Count);
        var seen = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var sample in samples)
        {
            var ordinal = seen[sample.TaskId] = seen.TryGetValue(sample.TaskId, out var last) ? last + 1 : 0;
            if (!unable.ContainsKey(sample.TaskId))
            {
                var task = _tasks[sample.TaskId];
                var source = _benchmark.Compose(task, sample);
                jobs.Add(new Job(task, ordinal, source, KeyOf(task, source, task.Tests)));
            }
        }

        jobs.ForEach(j => j.Entry = _journal?.Find(j.Key));
        var found = jobs.Count(j => j.Entry is not null);
        var pending = jobs.Where(j => j.Entry is null).Select(j => j.Task.TaskId).ToHashSet(StringComparer.Ordinal);
        var (references, failing) = await CheckReferencesAsync(used, pending, unable, cancellation);
        (_again, _changed) = (0, 0);

        // A task is found to lack a package only now when it imports it in the middle of a function.
        used.RemoveAll(t => unable.ContainsKey(t.TaskId));
        jobs.RemoveAll(j => unable.ContainsKey(j.Task.TaskId));
        var excluded = _options.Reference == ReferenceCheck.Exclude ? failing : [];
        jobs.RemoveAll(j => excluded.ContainsKey(j.Task.TaskId));
        foreach (var job in jobs.Where(j => j.Entry is null))
        {
            references.TryGetValue(job.Task.TaskId, out var reference);
            job.Expected = reference.Expected;
            job.Seconds = _options.Reference == ReferenceCheck.Skip
                ? Math.Max(_options.ReferenceSeconds, _benchmark.Seconds(job.Task, 0, _options))
                : _benchmark.Seconds(job.Task, reference.Seconds, _options);
            job.Entry = failing.GetValueOrDefault(job.Task.TaskId);
        }

        await RunAllAsync([.. jobs.Where(j => j.Entry is null)], cancellation);
        if (_options.CheckPackages && _options.Reference == ReferenceCheck.Skip)
        {
            // The samples are the references: what one lacks, its task needs.
            foreach (var job in jobs.Where(j => j.Entry!.Needs is not null))
            {
                unable.TryAdd(job.Task.TaskId, [job.Entry!.Needs!]);
            }

            used.RemoveAll(t => unable.ContainsKey(t.TaskId));
            jobs.RemoveAll(j => unable.ContainsKey(j.Task.TaskId));
        }

        WriteResults(jobs);
        return Summarize([.. used.Where(t => !excluded.ContainsKey(t.TaskId))], jobs, clock.Elapsed.TotalSeconds) with
        {
            Excluded = [.. excluded.Keys.Order(StringComparer.Ordinal)],
            NotRunnable = [.. tasks.Where(t => unable.ContainsKey(t.TaskId)).Select(t => new NotRunnableTask(t.TaskId, unable[t.TaskId]))],
            FromJournal = found,
        };
    }

    private async Task<Dictionary<string, List<string>>> NotRunnableAsync(List<BenchmarkTask> tasks, CancellationToken cancellation)
    {
        var unable = new Dictionary<string, List<string>>(StringComparer.Ordinal);
        if (_options.CheckPackages)
        {
            var missing = await PackageProbe.MissingAsync(_sandbox, tasks, cancellation);
            for (var i = 0; i < tasks.Count; i++)
            {
                if (missing[i].Count > 0)
                {
                    unable.Add(tasks[i].TaskId, missing[i]);
                }
            }
        }

        return unable;
    }

    private async Task<(Dictionary<string, (double Seconds, string? Expected)> References, Dictionary<string, JournalEntry> Failing)> CheckReferencesAsync(
        List<BenchmarkTask> tasks, HashSet<string> pending, Dictionary<string, List<string>> unable, CancellationToken cancellation)
    {
        var checks = new List<Job>();
        foreach (var task in tasks)
        {
            if (task.Reference is { } reference && (task.Oracle is not null || _options.Reference != ReferenceCheck.Skip))
            {
                var (source, tests) = task.Oracle is null ? (reference, task.Tests) : (task.OracleProgram ?? reference, task.Oracle);
                var job = new Job(task with { Tests = tests }, -1, source, KeyOf(task, source, "reference", tests)) { Seconds = _options.ReferenceSeconds };

                // An earlier run's outcome stands when nothing is left to grade: a limit or expected outputs need the reference again.
                job.Entry = pending.Contains(task.TaskId) ? null : _journal?.Find(job.Key);
                checks.Add(job);
            }
        }

        await RunAllAsync([.. checks.Where(c => c.Entry is null)], cancellation);
        var references = new Dictionary<string, (double, string?)>(StringComparer.Ordinal);
        var failing = new Dictionary<string, JournalEntry>(StringComparer.Ordinal);
        string? first = null;
        foreach (var check in checks)
        {
            var name = check.Task.TaskId;
            var entry = check.Entry!;
            var expected = check.Task.Oracle is null || check.Result is null ? null : ExpectedIn(check.Result.Stdout);
            if (_options.CheckPackages && entry.Needs is { } module)
            {
                unable.Add(name, [module]);
            }
            else if (entry.Outcome != SandboxOutcome.Passed || (check.Task.Oracle is not null && check.Result is not null && expected is null))
            {
                var outcome = entry.Outcome == SandboxOutcome.Passed ? SandboxOutcome.Failed : entry.Outcome;
                failing.Add(name, entry with { Outcome = outcome });
                first ??= $"{outcome}, {LastLine(check.Result?.Stderr ?? "")}";
            }

            references[name] = (entry.Seconds, expected);
        }

        if (failing.Count > 0 && _options.Reference == ReferenceCheck.Stop)
        {
            throw new InvalidInputException(
                $"The reference solution fails its own tests in {failing.Count} of {checks.Count} tasks: {Names([.. failing.Keys])} "
                + $"(the first: {first}); correct the tasks or exclude them.");
        }

        return (references, failing);
    }

    // What the oracle printed last; only base64 may reach the text of the tests.
    private static string? ExpectedIn(string printed)
    {
        const string mark = $"\n{Benchmark.ExpectedMark}\n";
        var at = printed.LastIndexOf(mark, StringComparison.Ordinal);
        var text = at < 0 ? "" : printed[(at + mark.Length)..].TrimEnd();
        return text.Length > 0 && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '+' or '/' or '=') ? text : null;
    }

    private string KeyOf(BenchmarkTask task, string source, params string[] tests) => _journal is null ? "" : OutcomeJournal.KeyOf([
        "1", _benchmark.Name, task.TaskId, _sandbox.Python, _options.FloorSeconds.ToString("R", CultureInfo.InvariantCulture),
        _options.ReferenceFactor.ToString("R", CultureInfo.InvariantCulture), task.Setup, source, .. tests, task.Reference ?? "", task.Oracle ?? "",
        .. task.Cases.SelectMany(c => new[] { c.Stdin, c.Stdout }),
    ]);

    private async Task RunAllAsync(List<Job> jobs, CancellationToken cancellation)
    {
        var workers = _options.Workers > 0 ? _options.Workers : Environment.ProcessorCount;
        var parallel = new ParallelOptions { MaxDegreeOfParallelism = workers, CancellationToken = cancellation };
        await Parallel.ForAsync(0, jobs.Count, parallel, async (i, token) => await RunOneAsync(jobs[i], alone: false, token));
        foreach (var job in jobs.Where(j => j.Result!.Outcome == SandboxOutcome.TimedOut))
        {
            await RunOneAsync(job, alone: true, cancellation);
            _again++;
            _changed += job.Result!.Outcome == SandboxOutcome.TimedOut ? 0 : 1;
        }
    }

    private async Task RunOneAsync(Job job, bool alone, CancellationToken cancellation)
    {
        var limits = _options.Limits with { WallSeconds = job.Seconds, CpuSeconds = job.Seconds };
        var result = job.Task.Cases.Count == 0 ? await _sandbox.RunAsync(job.Program, limits, cancellation) : await RunCasesAsync(job, limits, cancellation);
        job.Result = result;
        var reference = job.Ordinal < 0 || _options.Reference == ReferenceCheck.Skip;
        job.Entry = new JournalEntry(result.Outcome, result.WallSeconds, reference ? PackageProbe.MissingIn(job.Task, result) : PackageProbe.MissingIn(result));
        if (alone || result.Outcome != SandboxOutcome.TimedOut)
        {
            _journal?.Add(job.Key, job.Entry);
        }

        if (_details is not null)
        {
            var line = JsonLine.Of(json =>
            {
                json.WriteString("task_id", job.Task.TaskId);
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
    }

    // One script after the other until one is wrong; what passed before a time-out is not run again.
    private async Task<SandboxResult> RunCasesAsync(Job job, SandboxLimits limits, CancellationToken cancellation)
    {
        var (wall, cpu) = (job.Result?.WallSeconds ?? 0, 0.0);
        SandboxResult? result = null;
        for (; job.NextCase < job.Task.Cases.Count; job.NextCase++)
        {
            var test = job.Task.Cases[job.NextCase];
            var program = new SandboxProgram(job.Source) { Setup = job.Task.Setup, Stdin = test.Stdin, AsScript = true, AnyExitStatus = true };
            result = await _sandbox.RunAsync(program, limits, cancellation);
            wall += result.WallSeconds;
            cpu += result.CpuSeconds;
            if (result.Outcome == SandboxOutcome.Passed && PrintedOutput.Difference(result.Stdout, test.Stdout) is { } difference)
            {
                result = result with { Outcome = SandboxOutcome.Failed, Stderr = $"test {job.NextCase}: {difference}" };
            }

            if (result.Outcome != SandboxOutcome.Passed)
            {
                break;
            }
        }

        return result! with { WallSeconds = wall, CpuSeconds = cpu };
    }

    private void WriteResults(List<Job> jobs)
    {
        if (_options.ResultsPath is not { } path)
        {
            return;
        }

        // Beside the final name and then renamed: a file of that name is always whole.
        using (var file = Create(path + ".partial"))
        {
            foreach (var job in jobs)
            {
                file.WriteLine(JsonLine.Of(json =>
                {
                    json.WriteString("task_id", job.Task.TaskId);
                    json.WriteNumber("sample", job.Ordinal);
                    json.WriteBoolean("passed", job.Passed);
                    json.WriteString("outcome", job.Entry!.Outcome.ToString());
                }));
            }
        }

        File.Move(path + ".partial", path, overwrite: true);
    }

    private EvaluationSummary Summarize(List<BenchmarkTask> tasks, List<Job> jobs, double seconds)
    {
        var counts = tasks.ToDictionary(t => t.TaskId, _ => (Samples: 0, Passed: 0), StringComparer.Ordinal);
        foreach (var job in jobs)
        {
            var (all, passed) = counts[job.Task.TaskId];
            counts[job.Task.TaskId] = (all + 1, passed + (job.Passed ? 1 : 0));
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
            Outcomes = jobs.GroupBy(j => j.Entry!.Outcome).OrderBy(g => g.Key).ToDictionary(g => g.Key, g => g.Count()),
            Kinds = [.. scores.Where(s => s.Kind is not null).GroupBy(s => s.Kind!, StringComparer.Ordinal).Select(group =>
            {
                var (groupMean, groupInterval) = Score([.. group]);
                return new KindScore(group.Key, group.Count(), groupMean, groupInterval);
            })],
            Tasks = scores,
            Excluded = [],
            WithoutReference = tasks.Count(t => t.Reference is null),
            MissingPackages = jobs.Where(j => j.Entry!.Needs is not null).GroupBy(j => j.Entry!.Needs!, StringComparer.Ordinal)
                .OrderBy(g => g.Key, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.Count()),
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

    private sealed record Job(BenchmarkTask Task, int Ordinal, string Source, string Key)
    {
        internal double Seconds { get; set; }

        internal string? Expected { get; set; }

        internal int NextCase { get; set; }

        internal SandboxResult? Result { get; set; }

        internal JournalEntry? Entry { get; set; }

        internal bool Passed => Entry!.Outcome == SandboxOutcome.Passed;

        internal SandboxProgram Program =>
            new(Source, Expected is null ? Task.Tests : $"z1_expected = \"{Expected}\"\n{Task.Tests}") { Setup = Task.Setup };
    }
}
