using System.Diagnostics;

namespace Z1Coder.Runtime;

/// <summary>
/// What all groups of one rank share: the rings of recent operations, a thread that watches them, and one fate. The first failure of any rank (a
/// dead rank, a mismatch, a time-out, an abort) becomes the failure of every group on every rank.
/// </summary>
/// <remarks>
/// How a backend uses it: <see cref="Register"/> gives a ring for each group and takes what to do on a failure (wake those who wait, break off the
/// transfer under way). Each operation is queued, started and finished in the ring; the watchdog calls the backend's poll before it looks, for
/// backends whose operations finish without a thread of theirs seeing it. A backend that finds an error calls <see cref="Abort"/>, which tells
/// the other ranks first. Waits ask <see cref="ThrowIfFailed"/>.
/// </remarks>
public abstract class CollectiveMonitor : IDisposable
{
    private const int TailOfDump = 16, TailOfReport = 64;

    private readonly Lock _gate = new();
    private readonly List<Group> _groups = [];
    private readonly ManualResetEventSlim _stop = new(false);
    private Thread? _watchdog;
    private volatile string? _failure;
    private int _dumped;
    private bool _disposed;

    private protected CollectiveMonitor(int rank, int size, CollectiveOptions options)
    {
        (Rank, Size, Options) = (rank, size, options);
    }

    /// <summary>This process or thread among all of the job, from 0.</summary>
    public int Rank { get; }

    /// <summary>Ranks of the job.</summary>
    public int Size { get; }

    /// <summary>The sentence that every group fails with; null while all is well.</summary>
    public string? Failure => _failure;

    /// <summary>As given at the start.</summary>
    public CollectiveOptions Options { get; }

    /// <summary>Host and process, for messages; empty where all ranks are of one process.</summary>
    private protected virtual string Where => "";

    /// <exception cref="CollectiveException">the job has failed</exception>
    public void ThrowIfFailed()
    {
        if (_failure is { } failure)
        {
            throw new CollectiveException(failure);
        }
    }

    /// <summary>Ends every group on every rank with <paramref name="reason"/>, unless another reason came first; callable from any thread.</summary>
    public void Abort(string reason)
    {
        if (_failure is null)
        {
            TellOthers(reason);
            Fail(reason);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
        }

        _stop.Set();
        _watchdog?.Join();
        Dispose(true);
        _stop.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>The ring of a group, watched from now on.</summary>
    /// <param name="group">its name, for messages; <see cref="CollectiveRecord.World"/> for all ranks</param>
    /// <param name="onFailure">called once, from any thread, when the job has failed: wake who waits, break off what is under way</param>
    /// <param name="poll">called by the watchdog before it looks at the ring; null where the backend marks operations by itself</param>
    internal CollectiveRing Register(string group, Action onFailure, Action? poll = null)
    {
        var ring = new CollectiveRing(group, Math.Max(Options.RingSize, Options.QueueSize));
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            ThrowIfFailed();
            _groups.Add(new(ring, onFailure, poll));
            if (_watchdog is null && Options.HasTimeout)
            {
                _watchdog = new Thread(Watch, 256 << 10) { IsBackground = true, Name = $"z1 watchdog {Rank}" };
                _watchdog.Start();
            }
        }

        return ring;
    }

    /// <summary>The group is gone.</summary>
    internal void Unregister(CollectiveRing ring)
    {
        lock (_gate)
        {
            _groups.RemoveAll(g => g.Ring == ring);
        }
    }

    /// <summary>Makes <paramref name="reason"/> the failure of this rank's groups, if it is the first.</summary>
    internal void Fail(string reason)
    {
        Group[] groups;
        lock (_gate)
        {
            if (_failure is not null)
            {
                return;
            }

            _failure = reason;
            groups = [.. _groups];
        }

        OnFailure();
        foreach (var group in groups)
        {
            group.OnFailure();
        }
    }

    /// <summary>The rings' tails: for a diagnosis.</summary>
    internal CollectiveReport Report(int most = TailOfReport)
    {
        lock (_gate)
        {
            return new(Rank, Where, [.. _groups.SelectMany(g => g.Ring.Tail(most))]);
        }
    }

    /// <summary>Writes the rings' tails, once.</summary>
    internal void Dump(string why)
    {
        if (Interlocked.Exchange(ref _dumped, 1) == 0)
        {
            Options.Write(Report(TailOfDump).Dump(why));
        }
    }

    /// <summary>Brings <paramref name="reason"/> to the other ranks, as far as they can be reached; does not wait for them.</summary>
    private protected abstract void TellOthers(string reason);

    /// <summary>An operation of this rank is overdue, and its rings have been dumped: have all ranks dump theirs, diagnose, fail all.</summary>
    private protected abstract void OnTimeout(string sentence);

    /// <summary>The job has failed: wake whom the derived class lets wait.</summary>
    private protected virtual void OnFailure()
    {
    }

    /// <summary>Lets go of what the derived class holds.</summary>
    private protected abstract void Dispose(bool disposing);

    private void Watch()
    {
        var interval = TimeSpan.FromMilliseconds(Math.Clamp(Options.Timeout.TotalMilliseconds / 8, 5, 500));
        while (_failure is null && !_stop.Wait(interval))
        {
            Group[] groups;
            lock (_gate)
            {
                groups = [.. _groups];
            }

            foreach (var group in groups)
            {
                group.Poll?.Invoke();
                if (_failure is null && group.Ring.TryGetRunning(out var record) && record.Seconds > Options.Timeout.TotalSeconds)
                {
                    var sentence = $"rank {Rank} waits in {record.Phrase} for {record.Seconds:F1} s";
                    Dump($"time-out after {Options.Timeout.TotalSeconds:G4} s in {record.Phrase}");
                    OnTimeout(sentence);
                    return;
                }
            }
        }
    }

    private sealed record Group(CollectiveRing Ring, Action OnFailure, Action? Poll);
}
