namespace Z1Coder.Runtime;

/// <summary>The group of one rank: a reduction is a copy, a gathering is a copy, and where both sides are the same memory nothing happens.</summary>
public sealed class SelfCollective : ICollective
{
    private long _sequence;

    /// <inheritdoc/>
    public int Rank => 0;

    /// <inheritdoc/>
    public int Size => 1;

    /// <inheritdoc/>
    public string Backend => "self";

    /// <inheritdoc/>
    public long AllReduce<T>(ComputeStream stream, Tensor<T> data, Reduction reduction)
        where T : unmanaged => ++_sequence;

    /// <inheritdoc/>
    public long ReduceScatter<T>(ComputeStream stream, Tensor<T> whole, Tensor<T> shard, Reduction reduction)
        where T : unmanaged => Copy(stream, whole, shard);

    /// <inheritdoc/>
    public long AllGather<T>(ComputeStream stream, Tensor<T> shard, Tensor<T> whole)
        where T : unmanaged => Copy(stream, shard, whole);

    /// <inheritdoc/>
    public long AllToAll<T>(ComputeStream stream, Tensor<T> sent, Tensor<T> received)
        where T : unmanaged => Copy(stream, sent, received);

    /// <inheritdoc/>
    public long Broadcast<T>(ComputeStream stream, Tensor<T> data, int root)
        where T : unmanaged => ++_sequence;

    /// <inheritdoc/>
    public void Wait(ComputeStream stream, long sequence)
    {
    }

    /// <inheritdoc/>
    public void AllReduce(Span<double> values, Reduction reduction) => _sequence++;

    /// <inheritdoc/>
    public void Barrier()
    {
    }

    /// <inheritdoc/>
    public ICollective Split(int color, string name) => new SelfCollective();

    /// <inheritdoc/>
    public void Abort(string reason)
    {
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private unsafe long Copy<T>(ComputeStream stream, Tensor<T> from, Tensor<T> to)
        where T : unmanaged
    {
        if (from.Pointer != to.Pointer)
        {
            TensorCopy.Copy(stream, from, to);
        }

        return ++_sequence;
    }
}
