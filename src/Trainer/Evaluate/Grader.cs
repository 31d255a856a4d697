using System.Diagnostics;
using System.Globalization;
using System.Runtime.ExceptionServices;
using System.Threading.Channels;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// Grades samples in the sandbox, while others may still be generated. First a task's reference solution takes the same path as its
/// samples: a task whose reference fails says nothing about a model, and the reference's time on this machine, now, anchors the time
/// limit. Then its samples run, one program per core. What timed out is run again alone, when nothing is generated any more and no other
/// program runs, and only that verdict counts: a slow or busy machine must not look like a worse model.
/// </summary>
public sealed class Grader : IDisposable
{
    private const int ErrorKept = 2000;                 // characters of standard error in the details, from its end
    private const int NamesShown = 10;

    private readonly Benchmark _benchmark;
    private readonly EvaluationOptions _options;
    private readonly bool _alsoCut;
    private readonly IReadOnlyList<BenchmarkTask> _tasks;
    private readonly Sandbox _sandbox;
    private readonly Dictionary<string, Check> _checks;
    private readonly CancellationTokenSource _stop;
    private readonly CancellationToken _given;
    private readonly StreamWriter? _details;
    private readonly OutcomeJournal? _journal;
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly Channel<Job> _queue = Channel.CreateUnbounded<Job>();
    private readonly Lock _lock = new();
    private readonly List<Job> _jobs = [];
    private readonly bool _resumes;                     // outcomes are found in a journal
    private Task[] _workers = [];
    private StreamWriter? _cutDetails;
    private Exception? _fault;
    private int _open = 1;                              // jobs in the queue or running, and one until no further sample comes
    private int _unsettled, _graded, _again, _changed;

    private Grader(
        Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, EvaluationOptions options, bool alsoCut, CancellationToken cancellation)
    {
        (_benchmark, _options, _alsoCut, _tasks, _given) = (benchmark, options, alsoCut, tasks, cancellation);
        _checks = tasks.ToDictionary(t => t.TaskId, t => new Check(t), StringComparer.Ordinal);
        _sandbox = options.Sandbox ?? Sandbox.Create();
        _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        try
        {
            _resumes = File.Exists(options.JournalPath);
            _details = options.DetailsPath is null ? null : Create(options.DetailsPath, _resumes);
            _journal = options.JournalPath is null ? null : OutcomeJournal.Open(options.JournalPath);
        }
        catch
        {
            Dispose();
            throw;
        }

        if (CutPath is { } stale && !_resumes)
        {
            File.Delete(stale);
        }
    }

    /// <summary>Cancelled when grading cannot go on; <see cref="FinishAsync"/> then throws the reason.</summary>
    public CancellationToken Stopped => _stop.Token;

    /// <summary>Samples that have their verdict, or wait for the end to be run again alone.</summary>
    public int Graded => Volatile.Read(ref _graded);

    private string? CutPath => _options.DetailsPath is { } path ? path + EvaluationFiles.Cut : null;

    /// <summary>Grades <paramref name="samples"/> against <paramref name="tasks"/> of a benchmark.</summary>
    /// <exception cref="InvalidInputException">A sample names no task, a task has no sample, or a reference fails and the options say
    /// stop.</exception>
    /// <exception cref="SandboxException">Programs cannot be confined here.</exception>
    public static async Task<EvaluationSummary> EvaluateAsync(
        Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<Sample> samples, EvaluationOptions options,
        CancellationToken cancellation = default) =>
        (await EvaluateAsync(benchmark, tasks, samples, options, alsoCut: false, cancellation)).Plain;

    /// <summary>As the other; where the benchmark counts the higher of two scores and <paramref name="alsoCut"/> asks for it, both of
    /// them.</summary>
    internal static async Task<(EvaluationSummary Plain, EvaluationSummary? Cut)> EvaluateAsync(
        Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<Sample> samples, EvaluationOptions options, bool alsoCut,
        CancellationToken cancellation)
    {
        CheckNames(tasks, samples, options);
        using var grader = await StartAsync(benchmark, tasks, options, alsoCut, cancellation);
        var seen = new Dictionary<string, int>(StringComparer.Ordinal);
        grader.Add(samples.Select((sample, i) => (sample, seen[sample.TaskId] = seen.GetValueOrDefault(sample.TaskId, -1) + 1, i)));
        return await grader.FinishAsync();
    }

    /// <summary>Looks for missing packages where the options say so, and is then ready for samples.</summary>
    /// <param name="benchmark">How programs are made.</param>
    /// <param name="tasks">Every task that may be answered.</param>
    /// <param name="options">Limits, files, workers.</param>
    /// <param name="alsoCut">Samples are graded a second time, cut by <see cref="Benchmark.Sanitize"/>, where the benchmark counts the
    /// higher score.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="SandboxException">Programs cannot be confined here.</exception>
    internal static async Task<Grader> StartAsync(
        Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, EvaluationOptions options, bool alsoCut, CancellationToken cancellation)
    {
        var grader = new Grader(benchmark, tasks, options, alsoCut && benchmark.ScoresSanitized, cancellation);
        try
        {
            if (options.CheckPackages)
            {
                var missing = await PackageProbe.MissingAsync(grader._sandbox, tasks, cancellation);
                for (var i = 0; i < tasks.Count; i++)
                {
                    grader._checks[tasks[i].TaskId].Needs = missing[i].Count > 0 ? missing[i] : null;
                }
            }
        }
        catch
        {
            grader.Dispose();
            throw;
        }

        grader._workers = [.. Enumerable.Range(0, grader.Workers).Select(_ => Task.Run(grader.WorkAsync, CancellationToken.None))];
        return grader;
    }

    /// <summary>Runs the references of these tasks before any sample that comes later.</summary>
    internal void CheckReferences(IEnumerable<BenchmarkTask> tasks)
    {
        lock (_lock)
        {
            foreach (var check in tasks.Select(t => _checks[t.TaskId]).Where(c => c.Needs is null && NeedsReference(c.Task)))
            {
                Begin(check);
            }
        }
    }

    /// <summary>Takes samples; any thread.</summary>
    /// <param name="samples">Each with its number among the samples of its task, and its place in the file of results.</param>
    internal void Add(IEnumerable<(Sample Sample, int Ordinal, int Position)> samples)
    {
        lock (_lock)
        {
            foreach (var (sample, ordinal, position) in samples)
            {
                Add(sample, ordinal, position, cut: false);
                if (_alsoCut && sample with { Code = _benchmark.Sanitize(sample.Code) } is var cut && cut != sample)
                {
                    Add(cut, ordinal, position, cut: true);
                }
            }
        }
    }

    /// <summary>No sample comes any more: runs what is left, what timed out alone, writes the results and counts.</summary>
    /// <exception cref="InvalidInputException">A reference fails and the options say stop.</exception>
    internal async Task<(EvaluationSummary Plain, EvaluationSummary? Cut)> FinishAsync()
    {
        Release();
        await Task.WhenAll(_workers);
        ThrowIfStopped();
        var late = new List<Check>();
        foreach (var check in Answered.Where(c => c.Needs is null && !c.Settled && NeedsReference(c.Task)))
        {
            if (check.Job is null)
            {
                // Every sample was found in the journal, so no limit and no expected output is wanted: an earlier outcome of the reference
                // will do.
                Begin(check, enqueue: false);
                check.Job!.Entry = Find(check.Job.Key);
                if (check.Job.Entry is not null)
                {
                    Settle(check);
                    continue;
                }
            }

            late.Add(check);
        }

        await RunAllAsync([.. late.Select(c => c.Job!).Where(j => j.Entry is null)]);
        foreach (var check in late)
        {
            if (check.Job!.Result!.Outcome == SandboxOutcome.TimedOut)
            {
                await RunOneAsync(check.Job, alone: true);
            }

            Settle(check);
        }

        ThrowIfStopped();
        await RunAllAsync([.. late.SelectMany(c => c.Waiting)]);
        foreach (var job in _jobs.Where(j => j.Result?.Outcome == SandboxOutcome.TimedOut).OrderBy(j => j.Position))
        {
            await RunOneAsync(job, alone: true);
            _again++;
            _changed += job.Result!.Outcome == SandboxOutcome.TimedOut ? 0 : 1;
        }

        return Conclude();
    }

    /// <summary>Ends what runs and closes the files.</summary>
    public void Dispose()
    {
        _stop.Cancel();
        _queue.Writer.TryComplete();
        Task.WaitAll(_workers);
        _details?.Dispose();
        _cutDetails?.Dispose();
        _journal?.Dispose();
        _stop.Dispose();
    }

    private static void CheckNames(IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<Sample> samples, EvaluationOptions options)
    {
        var known = tasks.Select(t => t.TaskId).ToHashSet(StringComparer.Ordinal);
        if (samples.FirstOrDefault(s => !known.Contains(s.TaskId)) is { } stray)
        {
            throw new InvalidInputException(
                $"A sample answers \"{stray.TaskId}\", which is not among the {tasks.Count} tasks; check that both are of one benchmark.");
        }

        var answered = samples.Select(s => s.TaskId).ToHashSet(StringComparer.Ordinal);
        var missing = tasks.Where(t => !answered.Contains(t.TaskId)).Select(t => t.TaskId).ToList();
        if (answered.Count == 0 || (missing.Count > 0 && !options.AllowMissing))
        {
            throw new InvalidInputException(
                $"{missing.Count} of {tasks.Count} tasks have no sample ({Names(missing)}); every task needs one, or a partial run must be "
                + "allowed.");
        }
    }

    private static string Names(List<string> names) =>
        string.Join(", ", names.Take(NamesShown)) + (names.Count > NamesShown ? $" and {names.Count - NamesShown} more" : "");

    /// <summary>A file of lines, begun anew or after the whole lines that it holds.</summary>
    private static StreamWriter Create(string path, bool goOn = false)
    {
        try
        {
            var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
            var bytes = new byte[goOn ? file.Length : 0];
            file.ReadExactly(bytes);
            file.SetLength(Array.LastIndexOf(bytes, (byte)'\n') + 1);
            file.Seek(0, SeekOrigin.End);
            return new StreamWriter(file) { AutoFlush = true, NewLine = "\n" };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"{path} cannot be written: {e.Message}", e);
        }
    }

    private int Workers => _options.Workers > 0 ? _options.Workers : Environment.ProcessorCount;

    private IEnumerable<Check> Answered => _tasks.Select(t => _checks[t.TaskId]).Where(c => c.IsAnswered);

    private bool NeedsReference(BenchmarkTask task) =>
        task.Reference is not null && (task.Oracle is not null || _options.Reference != ReferenceCheck.Skip);

    private void Add(Sample sample, int ordinal, int position, bool cut)
    {
        var check = _checks[sample.TaskId];
        check.IsAnswered = true;
        if (check.Needs is not null)
        {
            return;
        }

        var source = _benchmark.Compose(check.Task, sample);
        var job = new Job(check.Task, ordinal, source, KeyOf(check.Task, source)) { Position = position, IsCut = cut };
        job.Entry = sample.IsUnanswered ? new JournalEntry(SandboxOutcome.PromptTooLong, 0, null) : Find(job.Key);
        job.IsFound = job.Entry is not null && !sample.IsUnanswered;
        _jobs.Add(job);
        if (job.Entry is not null)
        {
            Count(job);
        }
        else if (!NeedsReference(check.Task) || check.Settled)
        {
            Enqueue(job);
        }
        else
        {
            Begin(check);
            check.Waiting.Add(job);
        }
    }

    private void Begin(Check check, bool enqueue = true)
    {
        if (check.Job is not null)
        {
            return;
        }

        var task = check.Task;
        var (source, tested) = task.Oracle is null ? (task.Reference!, task) : (task.OracleProgram ?? task.Reference!, task with { Tests = task.Oracle });
        var key = KeyOf(tested, source, "reference");
        check.Job = new Job(tested, -1, source, key) { Seconds = _options.ReferenceSeconds };
        _unsettled++;
        if (enqueue)
        {
            Enqueue(check.Job);
        }
    }

    private void Enqueue(Job job)
    {
        Interlocked.Increment(ref _open);
        _queue.Writer.TryWrite(job);
    }

    private void Release()
    {
        if (Interlocked.Decrement(ref _open) == 0)
        {
            _queue.Writer.TryComplete();
        }
    }

    private async Task WorkAsync()
    {
        try
        {
            await foreach (var job in _queue.Reader.ReadAllAsync(_stop.Token))
            {
                await RunOneAsync(job, alone: false);
                if (job.Ordinal < 0 && job.Result!.Outcome != SandboxOutcome.TimedOut)
                {
                    Settle(_checks[job.Task.TaskId]);
                }

                Release();
            }
        }
        catch (Exception e)
        {
            Fail(e);
        }
    }

    private void Fail(Exception e)
    {
        Interlocked.CompareExchange(ref _fault, e, null);
        _stop.Cancel();
        _queue.Writer.TryComplete();
    }

    private void ThrowIfStopped()
    {
        _given.ThrowIfCancellationRequested();
        if (_fault is { } fault)
        {
            ExceptionDispatchInfo.Throw(fault);
        }
    }

    /// <summary>What a reference's end says about its task; the samples that waited for it can run.</summary>
    private void Settle(Check check)
    {
        lock (_lock)
        {
            var job = check.Job!;
            var entry = job.Entry!;
            var expects = check.Task.Oracle is not null && job.Result is not null;
            check.Expected = expects ? ExpectedIn(job.Result!.Stdout) : null;
            check.Seconds = entry.Seconds;
            if (_options.CheckPackages && entry.Needs is { } module)
            {
                check.Needs = [module];     // imported in the middle of a function: only running it shows that
            }
            else if (entry.Outcome != SandboxOutcome.Passed || (expects && check.Expected is null))
            {
                check.Failing = entry with { Outcome = entry.Outcome == SandboxOutcome.Passed ? SandboxOutcome.Failed : entry.Outcome };
            }

            check.Settled = true;
            if (--_unsettled == 0 && _options.Reference == ReferenceCheck.Stop)
            {
                StopIfReferencesFail();
            }

            if (!_queue.Reader.Completion.IsCompleted)
            {
                check.Waiting.ForEach(Enqueue);
            }
        }
    }

    private void StopIfReferencesFail()
    {
        var all = _tasks.Select(t => _checks[t.TaskId]).Where(c => c.Job is not null).ToList();
        var failing = all.Where(c => c.Failing is not null).ToList();
        if (failing.Count > 0)
        {
            var names = Names([.. failing.Select(c => c.Task.TaskId)]);
            var first = $"{failing[0].Failing!.Outcome}, {LastLine(failing[0].Job!.Result?.Stderr ?? "")}";
            Fail(new InvalidInputException(
                $"The reference solution fails its own tests in {failing.Count} of {all.Count} tasks: {names} (the first: {first}); "
                + "correct the tasks or exclude them."));
        }
    }

    // What the oracle printed last; only base64 may reach the text of the tests.
    private static string? ExpectedIn(string printed)
    {
        const string mark = $"\n{Benchmark.ExpectedMark}\n";
        var at = printed.LastIndexOf(mark, StringComparison.Ordinal);
        var text = at < 0 ? "" : printed[(at + mark.Length)..].TrimEnd();
        return text.Length > 0 && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '+' or '/' or '=') ? text : null;
    }

    private string KeyOf(BenchmarkTask task, string source, params string[] run) => _journal is null ? "" : OutcomeJournal.KeyOf([
        "1", _benchmark.Name, task.TaskId, _sandbox.Python, _sandbox.PythonVersion, Text(_options.FloorSeconds), Text(_options.ReferenceFactor),
        task.Setup, source, .. run, task.Tests, task.Reference ?? "",
        task.Oracle ?? "",
        .. task.Cases.SelectMany(c => new[] { c.Stdin, c.Stdout }),
    ]);

    // An outcome for want of a package is asked again: the package may be there now.
    private JournalEntry? Find(string key) => _journal?.Find(key) is { Needs: null } entry ? entry : null;

    private static string Text(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    private Task RunAllAsync(List<Job> jobs) =>
        Parallel.ForAsync(
            0, jobs.Count, new ParallelOptions { MaxDegreeOfParallelism = Workers, CancellationToken = _stop.Token },
            async (i, _) => await RunOneAsync(jobs[i], alone: false));

    private async Task RunOneAsync(Job job, bool alone)
    {
        if (job.Ordinal >= 0 && !IsRunnable(job))
        {
            Count(job);
            return;
        }

        var limits = _options.Limits with { WallSeconds = job.Seconds, CpuSeconds = job.Seconds };
        var result = job.Task.Cases.Count == 0
            ? await _sandbox.RunAsync(ProgramOf(job), limits, _stop.Token)
            : await RunCasesAsync(job, limits, _stop.Token);
        _stop.Token.ThrowIfCancellationRequested();     // Ctrl-C also reaches the programs: verdicts made meanwhile do not count
        var reference = job.Ordinal < 0 || _options.Reference == ReferenceCheck.Skip;
        job.Result = result;
        job.Entry = new JournalEntry(
            result.Outcome, result.WallSeconds, reference ? PackageProbe.MissingIn(job.Task, result) : PackageProbe.MissingIn(result));
        if (alone || result.Outcome != SandboxOutcome.TimedOut)
        {
            _journal?.Add(job.Key, job.Entry);
        }

        WriteDetails(job, result, alone);
        if (job.Ordinal >= 0 && !alone)
        {
            Count(job);
        }
    }

    // Before the tests stands what they find.
    private SandboxProgram ProgramOf(Job job)
    {
        var expected = job.Expected is null ? "" : $"z1_expected = \"{job.Expected}\"\n";
        var limits = job.Task.Inputs == 0 ? "" : $"z1_floor, z1_factor = {Text(_options.FloorSeconds)}, {Text(_options.ReferenceFactor)}\n";
        return new(job.Source, expected + limits + job.Task.Tests) { Setup = job.Task.Setup };
    }

    private void Count(Job job)
    {
        if (!job.IsCut)
        {
            Interlocked.Increment(ref _graded);
        }
    }

    /// <summary>Gives a sample its limit and expected outputs; false when its task cannot be run here or its reference fails.</summary>
    private bool IsRunnable(Job job)
    {
        var check = _checks[job.Task.TaskId];
        job.Expected = check.Expected;
        job.Seconds = _options.Reference == ReferenceCheck.Skip
            ? Math.Max(_options.ReferenceSeconds, _benchmark.Seconds(job.Task, 0, _options))
            : _benchmark.Seconds(job.Task, check.Seconds, _options);
        job.Entry = check.Failing;
        return check.Failing is null && check.Needs is null;
    }

    private void WriteDetails(Job job, SandboxResult result, bool alone)
    {
        if (_details is null)
        {
            return;
        }

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
            (job.IsCut ? _cutDetails ??= Create(CutPath!, _resumes) : _details).WriteLine(line);
        }
    }

    // One script after the other until one is wrong; what passed before a time-out is not run again.
    private async Task<SandboxResult> RunCasesAsync(Job job, SandboxLimits limits, CancellationToken cancellation)
    {
        var (wall, cpu) = (job.Result?.WallSeconds ?? 0, 0.0);
        SandboxResult? result = null;
        foreach (var test in job.Task.Cases.Skip(job.NextCase))
        {
            var program = new SandboxProgram(job.Source)
            {
                Setup = job.Task.Setup, Stdin = test.Stdin, AsScript = true, AnyExitStatus = true,
            };
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

            job.NextCase++;
        }

        return result! with { WallSeconds = wall, CpuSeconds = cpu };
    }

    private (EvaluationSummary Plain, EvaluationSummary? Cut) Conclude()
    {
        var checks = Answered.ToList();
        if (_options.CheckPackages && _options.Reference == ReferenceCheck.Skip)
        {
            // The samples are the references: what one lacks, its task needs.
            foreach (var job in _jobs.Where(j => j.Entry?.Needs is not null))
            {
                _checks[job.Task.TaskId].Needs ??= [job.Entry!.Needs!];
            }
        }

        var excludes = _options.Reference == ReferenceCheck.Exclude;
        var counted = checks.Where(c => c.Needs is null && !(excludes && c.Failing is not null)).ToList();
        var ids = counted.Select(c => c.Task.TaskId).ToHashSet(StringComparer.Ordinal);
        var jobs = _jobs.Where(j => ids.Contains(j.Task.TaskId)).OrderBy(j => j.Position).ToList();
        List<Job> plain = [.. jobs.Where(j => !j.IsCut)];
        var cut = jobs.Where(j => j.IsCut).ToDictionary(j => j.Position);
        List<Job> others = [.. plain.Select(j => cut.GetValueOrDefault(j.Position, j))];
        var summary = Summary(plain);
        var other = _alsoCut && _jobs.Exists(j => j.IsCut) ? Summary(others) : null;
        WriteResults(other is not null && other.PassAt1 > summary.PassAt1 ? others : plain);
        return (summary, other);

        EvaluationSummary Summary(List<Job> of) => Summarize([.. counted.Select(c => c.Task)], of, _clock.Elapsed.TotalSeconds) with
        {
            Excluded =
            [
                .. checks.Where(c => excludes && c.Needs is null && c.Failing is not null).Select(c => c.Task.TaskId)
                    .Order(StringComparer.Ordinal),
            ],
            NotRunnable = [.. checks.Where(c => c.Needs is not null).Select(c => new NotRunnableTask(c.Task.TaskId, c.Needs!))],
            FromJournal = of.Count(j => j.IsFound),
        };
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
        internal int Position { get; init; }

        internal bool IsCut { get; init; }

        internal bool IsFound { get; set; }

        internal double Seconds { get; set; }

        internal string? Expected { get; set; }

        internal int NextCase { get; set; }

        internal SandboxResult? Result { get; set; }

        internal JournalEntry? Entry { get; set; }

        internal bool Passed => Entry!.Outcome == SandboxOutcome.Passed;
    }

    /// <summary>What is known of a task before its samples run.</summary>
    private sealed class Check(BenchmarkTask task)
    {
        internal BenchmarkTask Task => task;

        internal bool IsAnswered { get; set; }

        internal List<string>? Needs { get; set; }

        internal Job? Job { get; set; }

        internal bool Settled { get; set; }

        internal JournalEntry? Failing { get; set; }

        internal double Seconds { get; set; }

        internal string? Expected { get; set; }

        internal List<Job> Waiting { get; } = [];
    }
}
