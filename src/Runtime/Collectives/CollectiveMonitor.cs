using System.Diagnostics;

namespace Z1Coder.Runtime;

/// <summary>
/// What all groups of one rank share: the rings of recent operations, a thread that watches them, and one fate. The first failure of any
/// rank (a
/// dead rank, a mismatch, a time-out, an abort) becomes the failure of every group on every rank.
/// </summary>
/// <remarks>
/// How a backend uses it: <see cref="Register"/> gives a ring for each group and takes what to do on a failure (wake those who wait, break
/// off the
/// transfer under way). Each operation is queued, started and finished in the ring; the watchdog calls the backend's poll before it looks,
/// for
/// backends whose operations finish without a thread of theirs seeing it. A backend that finds an error calls <see cref="Abort"/>, which
/// tells
/// the other ranks first. Waits ask <see cref="ThrowIfFailed"/>.
/// </remarks>
public abstract class CollectiveMonitor : IDisposable
{
    private const int TailOfDump = 16, TailOfReport = 64;
    private const double SecondsAfterLeaving = 2;       // what a rank sent before it left may still be on its way

    private readonly Lock _gate = new();
    private readonly bool[] _left;
    private readonly ManualResetEventSlim _stop = new(false), _ended = new(false);
    private Group[] _groups = [];                       // replaced, never changed: the watchdog walks it without a copy
    private Thread? _watchdog;
    private volatile string? _failure;
    private int _dumped;
    private bool _disposed;

    private protected CollectiveMonitor(int rank, int size, CollectiveOptions options)
    {
        (Rank, Size, Options, _left) = (rank, size, options, new bool[size]);
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

    /// <summary>Host and process of a rank in brackets, for messages, or nothing.</summary>
    private protected virtual string DescribeRank(int rank) => "";

    /// <exception cref="CollectiveException">the job has failed</exception>
    public void ThrowIfFailed()
    {
        if (_failure is { } failure)
        {
            throw new CollectiveException(failure);
        }
    }

    /// <summary>Ends every group on every rank with <paramref name="reason"/>, unless another reason came first; callable from any
    /// thread.</summary>
    public void Abort(string reason)
    {
        if (_failure is null)
        {
            Fail(TellOthers(reason));
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
        _ended.Set();
        _stop.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>The ring of a group, watched from now on.</summary>
    /// <param name="group">its name, for messages; <see cref="CollectiveRecord.World"/> for all ranks</param>
    /// <param name="onFailure">called once, from any thread, when the job has failed: wake who waits, break off what is under way</param>
    /// <param name="poll">called by the watchdog before it looks at the ring; null where the backend marks operations by itself</param>
    /// <param name="members">ranks of the job that take part; null: all, or not known unless the group is the world</param>
    internal CollectiveRing Register(string group, Action onFailure, Action? poll = null, int[]? members = null)
    {
        var ring = new CollectiveRing(group, Math.Max(Options.RingSize, Options.QueueSize));
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            ThrowIfFailed();
            _groups = [.. _groups, new(ring, onFailure, poll, members)];
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
            _groups = [.. _groups.Where(g => g.Ring != ring)];
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
            groups = _groups;
        }

        OnFailure();
        ExitLater(reason);
        foreach (var group in groups)
        {
            group.OnFailure();
        }
    }

    /// <summary>The rings' tails: for a diagnosis.</summary>
    internal CollectiveReport Report(int most = TailOfReport)
    {
        Group[] groups;
        lock (_gate)
        {
            groups = _groups;
        }

        return new(Rank, Where, [.. groups.SelectMany(g => g.Ring.Tail(most))]);
    }

    /// <summary>A rank has ended in order. Operations that wait for it from now on are given up after a moment.</summary>
    internal void HasLeft(int rank) => Volatile.Write(ref _left[rank], true);

    /// <summary>Whether <see cref="HasLeft"/> was told of it.</summary>
    internal bool IsGone(int rank) => Volatile.Read(ref _left[rank]);

    /// <summary>Writes the rings' tails, once.</summary>
    internal void Dump(string why)
    {
        if (Interlocked.Exchange(ref _dumped, 1) == 0)
        {
            Options.Write(Report(TailOfDump).Dump(why));
        }
    }

    /// <summary>Brings <paramref name="reason"/> to the other ranks, as far as they can be reached; does not wait for them. Gives the
    /// reason that
    /// holds: another rank's, if that is known to have been first.</summary>
    private protected abstract string TellOthers(string reason);

    /// <summary>An operation of this rank is overdue, and its rings have been dumped: have all ranks dump theirs, diagnose, fail
    /// all.</summary>
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
            foreach (var group in Volatile.Read(ref _groups))
            {
                group.Poll?.Invoke();
                if (_failure is not null || !group.Ring.TryGetRunning(out var record))
                {
                    continue;
                }

                if (record.Seconds > Options.Timeout.TotalSeconds)
                {
                    var sentence = $"rank {Rank} waits in {record.Phrase} for {record.Seconds:F1} s";
                    Dump($"time-out after {Options.Timeout.TotalSeconds:G4} s in {record.Phrase}");
                    OnTimeout(sentence);
                    return;
                }

                if (record.Seconds > SecondsAfterLeaving && group.Missing(_left) is var missing and >= 0)
                {
                    Abort($"rank {missing}{DescribeRank(missing)} has left, and rank {Rank} waits for it in {record.Phrase}");
                    return;
                }
            }
        }
    }

    /// <summary>A process whose work hangs elsewhere never sees the failure; it is ended all the same.</summary>
    private void ExitLater(string reason)
    {
        if (Options.ExitAfter > TimeSpan.Zero)
        {
            new Thread(() =>
            {
                if (!_ended.Wait(Options.ExitAfter))
                {
                    Options.Write($"rank {Rank}: ends {Options.ExitAfter.TotalSeconds:G4} s after its job failed: {reason}");
                    Options.Exit();
                }
            }, 256 << 10) { IsBackground = true, Name = $"z1 exit {Rank}" }.Start();
        }
    }

    private sealed record Group(CollectiveRing Ring, Action OnFailure, Action? Poll, int[]? Members)
    {
        /// <summary>A member that has left; -1 for none.</summary>
        public int Missing(bool[] left)
        {
            foreach (var member in Members ?? [])
            {
                if (Volatile.Read(ref left[member]))
                {
                    return member;
                }
            }

            return Members is null && Ring.Group == CollectiveRecord.World ? Array.IndexOf(left, true) : -1;
        }
    }
}
