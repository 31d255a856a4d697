using System.Diagnostics;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation;

/// <summary>The figures of a run while it goes on; any thread may read them, and the few examples of each reason are kept.</summary>
public sealed class CurationProgress
{
    private readonly TeacherClient? _teacher;
    private readonly double _pricePerInputToken, _pricePerOutputToken;
    private readonly DataReport _reasons = new();
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private long _kept, _dropped, _failed, _inFlight;
    private volatile string? _lastFailure;

    /// <summary>Figures of a run of <paramref name="total"/> items.</summary>
    /// <param name="total">items that are left to do when the run begins; 0 when nobody counted</param>
    /// <param name="teacher">whose tokens are counted</param>
    /// <param name="inputPrice">money per million tokens read</param>
    /// <param name="outputPrice">money per million tokens written</param>
    public CurationProgress(long total, TeacherClient? teacher, double inputPrice = 0, double outputPrice = 0) =>
        (Total, _teacher, _pricePerInputToken, _pricePerOutputToken) = (total, teacher, inputPrice / 1e6, outputPrice / 1e6);

    /// <summary>Items that were left to do when the run began.</summary>
    public long Total { get; }

    /// <summary>Items kept by this run.</summary>
    public long Kept => Interlocked.Read(ref _kept);

    /// <summary>Items dropped by this run, for a reason that the record names.</summary>
    public long Dropped => Interlocked.Read(ref _dropped);

    /// <summary>Items that got no answer; the next run asks for them again.</summary>
    public long Failed => Interlocked.Read(ref _failed);

    /// <summary>Items being worked on.</summary>
    public long InFlight => Interlocked.Read(ref _inFlight);

    /// <summary>Tokens that the teacher read in this run.</summary>
    public long PromptTokens => _teacher?.PromptTokens ?? 0;

    /// <summary>Tokens that the teacher wrote in this run.</summary>
    public long CompletionTokens => _teacher?.CompletionTokens ?? 0;

    /// <summary>Tries that were repeated.</summary>
    public long Retries => _teacher?.Retries ?? 0;

    /// <summary>Money, by the prices given.</summary>
    public double Cost => (PromptTokens * _pricePerInputToken) + (CompletionTokens * _pricePerOutputToken);

    /// <summary>Seconds since the run began.</summary>
    public double Seconds => _clock.Elapsed.TotalSeconds;

    /// <summary>Items finished per second of this run.</summary>
    public double ItemsPerSecond => (Kept + Dropped) / Math.Max(Seconds, 1e-9);

    /// <summary>Time left at this rate; null before anything is finished.</summary>
    public TimeSpan? Left => Kept + Dropped > 0 && Total > 0 && (Total - Kept - Dropped - Failed) / ItemsPerSecond is var seconds and < 1e8
        ? TimeSpan.FromSeconds(Math.Max(0, seconds))
        : null;

    /// <summary>The latest trouble: a failed item, or a try that is being repeated.</summary>
    public string? LastProblem => _lastFailure ?? _teacher?.LastProblem;

    /// <summary>Reasons of dropped and failed items with counts and examples.</summary>
    public IReadOnlyList<DropCount> Reasons
    {
        get
        {
            lock (_reasons)
            {
                return _reasons.Drops;
            }
        }
    }

    /// <summary>Good answers that the teacher gave in this run.</summary>
    internal long Answers => _teacher?.Answers ?? Kept + Dropped;

    internal void Began() => Interlocked.Increment(ref _inFlight);

    internal void Ended() => Interlocked.Decrement(ref _inFlight);

    internal void Finished(string id, Verdict verdict)
    {
        if (verdict.Reason is { } reason)
        {
            Interlocked.Increment(ref _dropped);
            Count(reason, id);
        }
        else
        {
            Interlocked.Increment(ref _kept);
        }
    }

    internal void Failure(string id, string why)
    {
        Interlocked.Increment(ref _failed);
        _lastFailure = why;
        Count("no answer", $"{id}: {why}");
    }

    private void Count(string reason, string example)
    {
        lock (_reasons)
        {
            _reasons.Drop(reason, example);
        }
    }
}
