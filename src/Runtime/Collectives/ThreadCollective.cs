namespace Z1Coder.Runtime;

/// <summary>Ranks that are threads of one process: for tests and for machines where several ranks share a process. An exchange is a copy
/// from the
/// peer's memory.</summary>
public sealed unsafe class ThreadCollective : HostCollective
{
    private readonly ThreadGroup _group;
    private readonly ThreadMonitor _monitor;
    private readonly bool _ownsMonitor;
    private long _round;

    private ThreadCollective(ThreadGroup group, int rank, int[] worldRanks, string name, ThreadMonitor monitor, bool ownsMonitor)
        : base(rank, worldRanks, name, monitor)
    {
        (_group, _monitor, _ownsMonitor) = (group, monitor, ownsMonitor);
    }

    /// <inheritdoc/>
    public override string Backend => "threads";

    /// <summary>A group of <paramref name="size"/> ranks; element r is for the thread that plays rank r, which also disposes it.</summary>
    public static ThreadCollective[] CreateGroup(int size, CollectiveOptions? options = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(size, 1);
        var job = new ThreadJob(size, options ?? new CollectiveOptions());
        var worldRanks = Enumerable.Range(0, size).ToArray();
        var group = job.GroupOf(CollectiveRecord.World, worldRanks);
        return [.. worldRanks.Select(r =>
            new ThreadCollective(group, r, worldRanks, CollectiveRecord.World, job.Monitors[r], ownsMonitor: true))];
    }

    /// <inheritdoc/>
    private protected override void Exchange(ReadOnlySpan<ExchangePart> sent, ReadOnlySpan<ExchangePart> received)
    {
        _round++;
        _group.Post(Rank, sent, _round);
        try
        {
            for (var step = 1; step < Size; step++)
            {
                var peer = (Rank + step) % Size;
                var from = _group.BeginCopy(peer, Rank, _round, _monitor);
                try
                {
                    var to = received[peer];
                    if (from.Bytes != to.Bytes)
                    {
                        throw new CollectiveException(
                            $"rank {peer} of group {Group} sends {from.Bytes:N0} bytes, rank {Rank} expects {to.Bytes:N0}");
                    }

                    Buffer.MemoryCopy(from.Pointer, to.Pointer, to.Bytes, from.Bytes);
                }
                finally
                {
                    _group.EndCopy(peer);
                }
            }

            _group.AwaitReaders(Rank, _round, _monitor);
        }
        catch
        {
            _group.Retract(Rank);
            throw;
        }
    }

    /// <inheritdoc/>
    private protected override void Interrupt() => _group?.Wake();          // null while the base class is being made

    /// <inheritdoc/>
    private protected override HostCollective CreateGroup(int[] members, int rank, string name, string path, int[] worldRanks) =>
        new ThreadCollective(_monitor.Job.GroupOf(path, worldRanks), rank, worldRanks, name, _monitor, ownsMonitor: false);

    /// <inheritdoc/>
    private protected override void Close()
    {
        _group.Leave(Rank);
        if (_ownsMonitor)
        {
            _monitor.Dispose();
        }
    }
}
