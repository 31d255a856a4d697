namespace Z1Coder.Runtime;

/// <summary>A group of one rank: every operation is a copy on the caller's stream, or nothing. For the host and for devices.</summary>
public sealed class SelfCollective : ICollective
{
    private long _sequence;
    private volatile string? _failure;

    /// <inheritdoc/>
    public int Rank => 0;

    /// <inheritdoc/>
    public int Size => 1;

    /// <inheritdoc/>
    public string Backend => "self";

    /// <inheritdoc/>
    public long AllReduce<T>(ComputeStream stream, Tensor<T> data, Reduction reduction)
        where T : unmanaged
    {
        _ = CollectiveElement.Reducible<T>();
        return Next();
    }

    /// <inheritdoc/>
    public long ReduceScatter<T>(ComputeStream stream, Tensor<T> whole, Tensor<T> shard, Reduction reduction)
        where T : unmanaged
    {
        _ = CollectiveElement.Reducible<T>();
        return Copy(stream, whole, shard);
    }

    /// <inheritdoc/>
    public long AllGather<T>(ComputeStream stream, Tensor<T> shard, Tensor<T> whole)
        where T : unmanaged => Copy(stream, shard, whole);

    /// <inheritdoc/>
    public long AllToAll<T>(ComputeStream stream, Tensor<T> sent, Tensor<T> received)
        where T : unmanaged => Copy(stream, sent, received);

    /// <inheritdoc/>
    public long Broadcast<T>(ComputeStream stream, Tensor<T> data, int root)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(root, 0);
        return Next();
    }

    /// <summary>Nothing to wait for: the copy is on a stream already, which is the caller's.</summary>
    public void Wait(ComputeStream stream, long sequence)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sequence, _sequence);
        ThrowIfFailed();
    }

    /// <inheritdoc/>
    public void AllReduce(Span<double> values, Reduction reduction) => Next();

    /// <inheritdoc/>
    public void Barrier() => Next();

    /// <inheritdoc/>
    public ICollective Split(int color, string name)
    {
        ThrowIfFailed();
        return new SelfCollective();
    }

    /// <inheritdoc/>
    public void Abort(string reason) => _failure ??= $"rank 0 gave up: {reason}";

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private static bool Same<T>(Tensor<T> a, Tensor<T> b)
        where T : unmanaged
    {
        unsafe
        {
            return a.Pointer == b.Pointer;
        }
    }

    private long Copy<T>(ComputeStream stream, Tensor<T> from, Tensor<T> to)
        where T : unmanaged
    {
        if (from.Count != to.Count)
        {
            throw new ArgumentException($"one rank: {from.Count:N0} elements cannot be shared out as {to.Count:N0}");
        }

        if (from.Count > 0 && !Same(from, to))
        {
            TensorCopy.Copy(stream, from, to);
        }

        return Next();
    }

    private long Next()
    {
        ThrowIfFailed();
        return ++_sequence;
    }

    private void ThrowIfFailed()
    {
        if (_failure is { } failure)
        {
            throw new CollectiveException(failure);
        }
    }
}
