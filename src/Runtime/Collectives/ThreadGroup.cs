namespace Z1Coder.Runtime;

/// <summary>Where the ranks of one group of threads meet: what each has posted, how often it has been read.</summary>
internal sealed class ThreadGroup(ThreadJob job, int[] worldRanks)
{
    private readonly object _gate = new();
    private readonly ExchangePart[] _posted = new ExchangePart[worldRanks.Length * worldRanks.Length];
    private readonly long[] _round = new long[worldRanks.Length];
    private readonly int[] _reads = new int[worldRanks.Length], _reading = new int[worldRanks.Length];
    private readonly bool[] _left = new bool[worldRanks.Length];

    /// <summary>From now on the peers may read what <paramref name="rank"/> sends them in this round.</summary>
    public void Post(int rank, ReadOnlySpan<ExchangePart> sent, long round)
    {
        lock (_gate)
        {
            sent.CopyTo(_posted.AsSpan(rank * worldRanks.Length, worldRanks.Length));
            _reads[rank] = 0;
            _round[rank] = round;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Waits until <paramref name="peer"/> has posted; until <see cref="EndCopy"/> its memory stays.</summary>
    public ExchangePart BeginCopy(int peer, int rank, long round, CollectiveMonitor monitor)
    {
        lock (_gate)
        {
            while (_round[peer] < round)
            {
                WaitFor(peer, monitor);
            }

            monitor.ThrowIfFailed();
            _reading[peer]++;
            return _posted[(peer * worldRanks.Length) + rank];
        }
    }

    /// <summary>The copy from <paramref name="peer"/> is done, or given up.</summary>
    public void EndCopy(int peer)
    {
        lock (_gate)
        {
            _reading[peer]--;
            _reads[peer]++;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Waits until all peers have read what <paramref name="rank"/> posted.</summary>
    public void AwaitReaders(int rank, long round, CollectiveMonitor monitor)
    {
        lock (_gate)
        {
            while (_reads[rank] < worldRanks.Length - 1)
            {
                var missing = rank;
                for (var peer = 0; peer < worldRanks.Length; peer++)
                {
                    missing = _left[peer] && _round[peer] < round ? peer : missing;
                }

                WaitFor(missing, monitor);
            }
        }
    }

    /// <summary>After a failure: waits until no peer reads the memory of <paramref name="rank"/> any more, and no peer will.</summary>
    public void Retract(int rank)
    {
        lock (_gate)
        {
            _round[rank] = long.MinValue;
            while (_reading[rank] > 0)
            {
                Monitor.Wait(_gate);
            }
        }
    }

    /// <summary>The rank is gone; peers that wait for it fail.</summary>
    public void Leave(int rank)
    {
        lock (_gate)
        {
            _left[rank] = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Those who wait look at their monitor again.</summary>
    public void Wake()
    {
        lock (_gate)
        {
            Monitor.PulseAll(_gate);
        }
    }

    private void WaitFor(int peer, CollectiveMonitor monitor)
    {
        monitor.ThrowIfFailed();
        if (_left[peer])
        {
            throw new CollectiveException(job.Failure ?? $"rank {worldRanks[peer]} has left, and rank {monitor.Rank} waits for it");
        }

        Monitor.Wait(_gate);
    }
}
