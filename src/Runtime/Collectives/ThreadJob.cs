namespace Z1Coder.Runtime;

/// <summary>What the ranks of one process share: their monitors and the groups they meet in.</summary>
internal sealed class ThreadJob
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, ThreadGroup> _groups = [];

    private string? _failure;

    public ThreadJob(int size, CollectiveOptions options)
    {
        Monitors = [.. Enumerable.Range(0, size).Select(r => new ThreadMonitor(this, r, size, options))];
    }

    public IReadOnlyList<ThreadMonitor> Monitors { get; }

    /// <summary>The first failure of any rank; null while all is well. A rank that has failed may leave before all others have been
    /// told.</summary>
    public string? Failure => Volatile.Read(ref _failure);

    /// <summary>Makes <paramref name="reason"/> the failure, unless there is one; gives the one that holds.</summary>
    public string FailFirst(string reason) => Interlocked.CompareExchange(ref _failure, reason, null) ?? reason;

    /// <summary>The group of that path; the first member to ask makes it.</summary>
    public ThreadGroup GroupOf(string path, int[] worldRanks)
    {
        lock (_gate)
        {
            if (!_groups.TryGetValue(path, out var group))
            {
                _groups.Add(path, group = new ThreadGroup(this, worldRanks));
            }

            return group;
        }
    }
}
