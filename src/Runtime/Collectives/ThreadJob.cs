namespace Z1Coder.Runtime;

/// <summary>What the ranks of one process share: their monitors and the groups they meet in.</summary>
internal sealed class ThreadJob
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, ThreadGroup> _groups = [];

    public ThreadJob(int size, CollectiveOptions options)
    {
        Monitors = [.. Enumerable.Range(0, size).Select(r => new ThreadMonitor(this, r, size, options))];
    }

    public IReadOnlyList<ThreadMonitor> Monitors { get; }

    /// <summary>The group of that path; the first member to ask makes it.</summary>
    public ThreadGroup GroupOf(string path, int[] worldRanks)
    {
        lock (_gate)
        {
            if (!_groups.TryGetValue(path, out var group))
            {
                _groups.Add(path, group = new ThreadGroup(worldRanks));
            }

            return group;
        }
    }
}
