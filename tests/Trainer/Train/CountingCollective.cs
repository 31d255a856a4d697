using Z1Coder.Runtime;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>Passes every call on and counts what a ring would send of it; groups of one rank send nothing. Values of double are bookkeeping
/// (norms), not counted.</summary>
internal sealed class CountingCollective(ICollective inner, Dictionary<(string Operation, int Ranks), (long Calls, double Bytes)> counts) : ICollective
{
    public int Rank => inner.Rank;

    public int Size => inner.Size;

    public string Backend => inner.Backend;

    public long AllReduce<T>(ComputeStream stream, Tensor<T> data, Reduction reduction)
        where T : unmanaged
    {
        Count<T>("all-reduce", 2 * data.Bytes);
        return inner.AllReduce(stream, data, reduction);
    }

    public long ReduceScatter<T>(ComputeStream stream, Tensor<T> whole, Tensor<T> shard, Reduction reduction)
        where T : unmanaged
    {
        Count<T>("reduce-scatter", whole.Bytes);
        return inner.ReduceScatter(stream, whole, shard, reduction);
    }

    public long AllGather<T>(ComputeStream stream, Tensor<T> shard, Tensor<T> whole)
        where T : unmanaged
    {
        Count<T>("all-gather", whole.Bytes);
        return inner.AllGather(stream, shard, whole);
    }

    public long AllToAll<T>(ComputeStream stream, Tensor<T> sent, Tensor<T> received)
        where T : unmanaged
    {
        Count<T>("exchange", sent.Bytes);
        return inner.AllToAll(stream, sent, received);
    }

    public long Broadcast<T>(ComputeStream stream, Tensor<T> data, int root)
        where T : unmanaged
    {
        Count<T>("broadcast", data.Bytes);
        return inner.Broadcast(stream, data, root);
    }

    public void Wait(ComputeStream stream, long sequence) => inner.Wait(stream, sequence);

    public void AllReduce(Span<double> values, Reduction reduction) => inner.AllReduce(values, reduction);

    public void Barrier() => inner.Barrier();

    public ICollective Split(int color, string name) => new CountingCollective(inner.Split(color, name), counts);

    public void Abort(string reason) => inner.Abort(reason);

    public void Dispose() => inner.Dispose();

    private void Count<T>(string operation, long bytes)
    {
        if (Size > 1 && typeof(T) != typeof(double))
        {
            var (calls, sent) = counts.GetValueOrDefault((operation, Size));
            counts[(operation, Size)] = (calls + 1, sent + (bytes * (Size - 1.0) / Size));
        }
    }
}
