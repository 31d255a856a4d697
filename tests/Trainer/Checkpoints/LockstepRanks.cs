using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Trainer.Checkpoints;

/// <summary>
/// Ranks as threads that meet at every call and read each other's arguments: the least that checkpoint code needs of a collective. A rank
/// that ends with an exception makes the others' calls throw, as a dead process would.
/// </summary>
internal sealed class LockstepRanks(int size)
{
    private readonly object[] _arguments = new object[size];
    private readonly object _lock = new();
    private string? _aborted;
    private int _waiting;
    private long _generation;

    /// <summary>Runs <paramref name="body"/> once per rank, each on a thread of its own; the results, or what was thrown.</summary>
    public static (TResult? Result, Exception? Thrown)[] Run<TResult>(int size, Func<ICollective, TResult> body)
    {
        var ranks = new LockstepRanks(size);
        var results = new (TResult?, Exception?)[size];
        var threads = Enumerable.Range(0, size).Select(rank => new Thread(() =>
        {
            try
            {
                results[rank] = (body(new Rank(ranks, rank)), null);
            }
            catch (Exception e)
            {
                results[rank] = (default, e);
                ranks.Abort($"rank {rank} is gone");
            }
        })).ToList();
        threads.ForEach(t => t.Start());
        threads.ForEach(t => t.Join());
        return results;
    }

    /// <summary>As <see cref="Run"/>; the first exception is thrown here.</summary>
    public static TResult[] All<TResult>(int size, Func<ICollective, TResult> body)
    {
        var results = Run(size, body);
        return Array.Find(results, r => r.Thrown is not null and not CollectiveException).Thrown is { } thrown
            ? throw new AggregateException(thrown)
            : [.. results.Select(r => r.Result!)];
    }

    private void Abort(string reason)
    {
        lock (_lock)
        {
            _aborted ??= reason;
            Monitor.PulseAll(_lock);
        }
    }

    private void Meet()
    {
        lock (_lock)
        {
            var generation = _generation;
            if (++_waiting == size)
            {
                (_waiting, _generation) = (0, generation + 1);
                Monitor.PulseAll(_lock);
            }

            while (generation == _generation)
            {
                if (_aborted is { } reason)
                {
                    throw new CollectiveException(reason);
                }

                Monitor.Wait(_lock);
            }
        }
    }

    private void Exchange(int rank, object argument, Action<object[]> use)
    {
        lock (_lock)
        {
            _arguments[rank] = argument;
        }

        Meet();
        use(_arguments);
        Meet();
    }

    private sealed class Rank(LockstepRanks ranks, int rank) : ICollective
    {
        public int Size => ranks._arguments.Length;

        public string Backend => "lockstep";

        int ICollective.Rank => rank;

        public void AllReduce(Span<double> values, Reduction reduction)
        {
            var own = values.ToArray();
            var result = new double[own.Length];
            ranks.Exchange(rank, own, all =>
            {
                for (var i = 0; i < result.Length; i++)
                {
                    result[i] = all.Select(a => ((double[])a)[i]).Aggregate((x, y) => reduction == Reduction.Max ? Math.Max(x, y) : x + y);
                }
            });
            result.CopyTo(values);
        }

        public void Barrier() => ranks.Meet();

        public long AllGather<T>(ComputeStream stream, Tensor<T> shard, Tensor<T> whole)
            where T : unmanaged
        {
            ranks.Exchange(rank, shard, all =>
            {
                for (var r = 0; r < all.Length; r++)
                {
                    var from = (Tensor<T>)all[r];
                    from.Span.CopyTo(whole.Span.Slice(r * (int)from.Count, (int)from.Count));
                }
            });
            return 0;
        }

        public void Wait(ComputeStream stream, long sequence)
        {
        }

        public long AllReduce<T>(ComputeStream stream, Tensor<T> data, Reduction reduction)
            where T : unmanaged => throw Unused();

        public long ReduceScatter<T>(ComputeStream stream, Tensor<T> whole, Tensor<T> shard, Reduction reduction)
            where T : unmanaged => throw Unused();

        public long AllToAll<T>(ComputeStream stream, Tensor<T> sent, Tensor<T> received)
            where T : unmanaged => throw Unused();

        public long Broadcast<T>(ComputeStream stream, Tensor<T> data, int root)
            where T : unmanaged => throw Unused();

        public ICollective Split(int color, string name) => throw Unused();

        public void Abort(string reason) => ranks.Abort(reason);

        public void Dispose()
        {
        }

        private static NotSupportedException Unused([CallerMemberName] string what = "") => new($"{what} is not needed here");
    }
}
