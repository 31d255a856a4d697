namespace Z1Coder.Runtime;

/// <summary>
/// Operations that all ranks of a group take part in, each rank calling the same ones in the same order. A call on tensors is ordered after
/// everything enqueued on its stream so far, runs beside what is enqueued later, and returns its sequence number, for <see cref="Wait"/>;
/// until then the tensors belong to it. Shapes are ignored, elements count. Calls allocate no managed memory once warm.
/// </summary>
/// <remarks>Element types: float, double, <see cref="BFloat16"/> wherever values are reduced; any where they are only moved. Every call may
/// throw <see cref="CollectiveException"/>: another rank died, called something else, or did not come in time.</remarks>
public interface ICollective : IDisposable
{
    /// <summary>This process or thread, from 0.</summary>
    int Rank { get; }

    /// <summary>Ranks in all.</summary>
    int Size { get; }

    /// <summary>self, threads, tcp, mpi or nccl.</summary>
    string Backend { get; }

    /// <summary>data[i] = reduction over ranks of data[i], the same bits on every rank.</summary>
    long AllReduce<T>(ComputeStream stream, Tensor<T> data, Reduction reduction)
        where T : unmanaged;

    /// <summary>shard[i] = reduction over ranks of whole[Rank · n + i], n the elements of a shard; <paramref name="shard"/> may be that part of
    /// <paramref name="whole"/>, whose other parts are then undefined.</summary>
    /// <param name="stream">orders it</param>
    /// <param name="whole">Size · n elements</param>
    /// <param name="shard">n elements</param>
    /// <param name="reduction">how</param>
    long ReduceScatter<T>(ComputeStream stream, Tensor<T> whole, Tensor<T> shard, Reduction reduction)
        where T : unmanaged;

    /// <summary>whole[r · n + i] = shard[i] of rank r; <paramref name="shard"/> may be part Rank of <paramref name="whole"/>.</summary>
    long AllGather<T>(ComputeStream stream, Tensor<T> shard, Tensor<T> whole)
        where T : unmanaged;

    /// <summary>received[r · n + i] = sent[Rank · n + i] of rank r: every rank gets its part from every other, unreduced. No overlap.</summary>
    long AllToAll<T>(ComputeStream stream, Tensor<T> sent, Tensor<T> received)
        where T : unmanaged;

    /// <summary>data of every rank = data of rank <paramref name="root"/>.</summary>
    long Broadcast<T>(ComputeStream stream, Tensor<T> data, int root)
        where T : unmanaged;

    /// <summary>What is enqueued on <paramref name="stream"/> from here on runs after the operation of that number (a CPU stream waits here).</summary>
    void Wait(ComputeStream stream, long sequence);

    /// <summary>values[i] = reduction over ranks, on the host, waited for; added in rank order, the same bits on every rank. For counts,
    /// losses and verdicts: a few values.</summary>
    void AllReduce(Span<double> values, Reduction reduction);

    /// <summary>Returns when every rank has called it.</summary>
    void Barrier();

    /// <summary>The ranks that give the same <paramref name="color"/>, in the order of <see cref="Rank"/>, as a group of their own; every rank
    /// calls it, at the same place. <paramref name="name"/> is for messages.</summary>
    ICollective Split(int color, string name);

    /// <summary>Gives up what is under way here and on the other ranks, which fail with <paramref name="reason"/>; callable from any thread.</summary>
    void Abort(string reason);
}
