using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// Collectives on host memory: a thread of its own for each group, which takes operations from a bounded queue and carries them out over
/// one
/// primitive, the exchange of bytes with every peer. Values are added in the order of the ranks, in fp32 (bf16 is rounded once) or double,
/// so
/// results do not depend on timing or backend. Tensors on a device are refused.
/// </summary>
/// <remarks>
/// Before an operation every rank sends its peers a header of 32 bytes (sequence number, operation, element, count, root); where two
/// differ, both
/// sides are named and the job ends. Groups that come from <see cref="Split"/> have threads and channels of their own, so a rank may use
/// several with
/// overlapping operations in any order. After a failure the call that throws first waits until the thread has let go of the tensors.
/// </remarks>
public abstract unsafe partial class HostCollective : ICollective
{
    private const int HostValues = 8192;                // doubles of one host all-reduce
    private const int MostStaging = 64 << 20;           // bytes
    private const int SmallestPiece = 8 << 10;          // bytes

    private static readonly TimeSpan s_release = TimeSpan.FromSeconds(5);

    private readonly object _gate = new();              // the queue's readers and writers wait on it
    private readonly Lock _hostCalls = new();
    private readonly CollectiveMonitor _monitor;
    private readonly CollectiveRing _ring;
    private readonly Operation[] _operations;
    private readonly int[] _worldRanks;
    private readonly int _piece;
    private readonly byte* _host;
    private readonly long _hostValues;
    private Thread? _thread;
    private long _queued, _completed;
    private string _path = CollectiveRecord.World;      // names may repeat, paths do not
    private int _splits;
    private bool _stopping, _stopped = true, _disposed;

    /// <summary>A group in which this process or thread is <paramref name="rank"/>.</summary>
    /// <param name="rank">within the group</param>
    /// <param name="worldRanks">of its members, in the order of their ranks in the group: messages use these</param>
    /// <param name="group">its name, for messages</param>
    /// <param name="monitor">the fate it shares with the other groups of this rank</param>
    private protected HostCollective(int rank, int[] worldRanks, string group, CollectiveMonitor monitor)
    {
        (Rank, Size, Group, _worldRanks, _monitor) = (rank, worldRanks.Length, group, worldRanks, monitor);
        _piece = Math.Clamp(monitor.Options.PieceBytes & ~63, SmallestPiece, Math.Max(SmallestPiece, (MostStaging / Size) & ~63));
        _operations = new Operation[Math.Max(monitor.Options.QueueSize, 1)];
        _hostValues = Math.Max(HostValues, Size + 1);
        _sent = new ExchangePart[Size];
        _received = new ExchangePart[Size];
        _ring = monitor.Register(group, OnFailure, poll: null, worldRanks);
        _host = (byte*)NativeMemory.AlignedAlloc((nuint)(_hostValues * sizeof(double)), 64);
    }

    /// <inheritdoc/>
    public int Rank { get; }

    /// <inheritdoc/>
    public int Size { get; }

    /// <inheritdoc/>
    public abstract string Backend { get; }

    /// <summary>Its name, for messages; world for the ranks of the whole job.</summary>
    internal string Group { get; }

    /// <inheritdoc/>
    public long AllReduce<T>(ComputeStream stream, Tensor<T> data, Reduction reduction)
        where T : unmanaged =>
        Enqueue(CollectiveOperation.AllReduce, CollectiveElement.Reducible<T>(), reduction, -1, data.Count, Address(stream, data), null);

    /// <inheritdoc/>
    public long ReduceScatter<T>(ComputeStream stream, Tensor<T> whole, Tensor<T> shard, Reduction reduction)
        where T : unmanaged
    {
        var element = CollectiveElement.Reducible<T>();
        var from = Address(stream, whole);
        var to = Address(stream, shard);
        CheckParts(whole.Count, shard.Count);
        CheckOverlap(from, whole.Bytes, to, shard.Bytes, ownPartAllowed: true);
        return Enqueue(CollectiveOperation.ReduceScatter, element, reduction, -1, shard.Count, from, to);
    }

    /// <inheritdoc/>
    public long AllGather<T>(ComputeStream stream, Tensor<T> shard, Tensor<T> whole)
        where T : unmanaged
    {
        var from = Address(stream, shard);
        var to = Address(stream, whole);
        CheckParts(whole.Count, shard.Count);
        CheckOverlap(to, whole.Bytes, from, shard.Bytes, ownPartAllowed: true);
        return Enqueue(CollectiveOperation.AllGather, CollectiveElement.Of<T>(), default, -1, shard.Count, from, to);
    }

    /// <inheritdoc/>
    public long AllToAll<T>(ComputeStream stream, Tensor<T> sent, Tensor<T> received)
        where T : unmanaged
    {
        var from = Address(stream, sent);
        var to = Address(stream, received);
        if (sent.Count != received.Count || sent.Count % Size != 0)
        {
            throw new ArgumentException($"{Size} ranks cannot swap equal parts of {sent.Count:N0} and {received.Count:N0} elements");
        }

        CheckOverlap(from, sent.Bytes, to, received.Bytes, ownPartAllowed: false);
        return Enqueue(CollectiveOperation.AllToAll, CollectiveElement.Of<T>(), default, -1, sent.Count, from, to);
    }

    /// <inheritdoc/>
    public long Broadcast<T>(ComputeStream stream, Tensor<T> data, int root)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfNegative(root);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(root, Size);
        return Enqueue(CollectiveOperation.Broadcast, CollectiveElement.Of<T>(), default, root, data.Count, Address(stream, data), null);
    }

    /// <inheritdoc/>
    public void Wait(ComputeStream stream, long sequence) => WaitFor(sequence);

    /// <inheritdoc/>
    public void AllReduce(Span<double> values, Reduction reduction)
    {
        lock (_hostCalls)
        {
            while (true)
            {
                var count = (int)Math.Min(values.Length, _hostValues);
                var piece = values[..count];
                piece.CopyTo(new(_host, count));
                WaitFor(Enqueue(CollectiveOperation.HostAllReduce, CollectiveElement.Double, reduction, -1, count, _host, null));
                new Span<double>(_host, count).CopyTo(piece);
                values = values[count..];
                if (values.IsEmpty)
                {
                    return;
                }
            }
        }
    }

    /// <inheritdoc/>
    public void Barrier() => WaitFor(Enqueue(CollectiveOperation.Barrier, CollectiveElement.None, default, -1, 0, null, null));

    /// <inheritdoc/>
    public ICollective Split(int color, string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        lock (_hostCalls)
        {
            *(long*)_host = color;
            var colors = (long*)_host + 1;
            WaitFor(Enqueue(CollectiveOperation.Split, CollectiveElement.Int64, default, -1, 1, _host, (byte*)colors));
            var members = new List<int>();
            for (var rank = 0; rank < Size; rank++)
            {
                if (colors[rank] == color)
                {
                    members.Add(rank);
                }
            }

            var path = $"{_path}/{++_splits}:{color}";
            var part = CreateGroup([.. members], members.IndexOf(Rank), name, path, [.. members.Select(m => _worldRanks[m])]);
            part._path = path;
            return part;
        }
    }

    /// <inheritdoc/>
    public void Abort(string reason) => _monitor.Abort($"rank {_monitor.Rank} gave up: {reason}");

    /// <summary>Leaves the group. With operations outstanding that nobody waited for, the other ranks fail: they would wait in
    /// vain.</summary>
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

        if (Volatile.Read(ref _queued) > Volatile.Read(ref _completed) && _monitor.Failure is null)
        {
            var outstanding = _ring.TryGetRunning(out var record) ? record.Phrase : "an operation";
            _monitor.Abort($"rank {_monitor.Rank} left group {Group} with {outstanding} outstanding");
        }

        lock (_gate)
        {
            _stopping = true;
            Monitor.PulseAll(_gate);
        }

        var ended = _thread?.Join(s_release) ?? true;
        Close();
        _monitor.Unregister(_ring);
        if (ended)
        {
            NativeMemory.AlignedFree(_host);            // otherwise the thread hangs in a library and may still come back to it
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>
    /// Sends sent[r] to rank r and receives received[r] from rank r, for every r but this rank; both sides name the same number of bytes.
    /// Returns when all
    /// that is received is there and all that was sent may be overwritten. Runs on the group's thread.
    /// </summary>
    /// <exception cref="CollectiveException">the job has failed, or a peer is gone</exception>
    private protected abstract void Exchange(ReadOnlySpan<ExchangePart> sent, ReadOnlySpan<ExchangePart> received);

    /// <summary>Makes an exchange under way end soon, with an exception: the job has failed. Called from any thread.</summary>
    private protected abstract void Interrupt();

    /// <summary>Makes a group of some ranks of this one; all of them call it.</summary>
    /// <param name="members">ranks of this group, ascending</param>
    /// <param name="rank">this rank among them</param>
    /// <param name="name">for messages</param>
    /// <param name="path">differs from that of every other group of the job</param>
    /// <param name="worldRanks">of the members</param>
    private protected abstract HostCollective CreateGroup(int[] members, int rank, string name, string path, int[] worldRanks);

    /// <summary>Lets go of the channels: this rank has left. The group's thread has ended, or hangs.</summary>
    private protected abstract void Close();

    private static byte* Pointer<T>(Tensor<T> tensor)
        where T : unmanaged => tensor.IsEmpty ? null : (byte*)tensor.HostPointer;

    private byte* Address<T>(ComputeStream stream, Tensor<T> tensor)
        where T : unmanaged
    {
        if (tensor.Device is { } device)
        {
            throw new NotSupportedException($"the {Backend} backend moves host memory; the tensor is in the memory of {device}: use nccl");
        }

        return stream is CpuStream ? Pointer(tensor) : throw new NotSupportedException(
            $"the {Backend} backend is ordered with a CPU stream, not with one on {stream?.DeviceName}");
    }

    private void CheckParts(long whole, long shard)
    {
        if (whole != shard * Size)
        {
            throw new ArgumentException($"{Size} shards of {shard:N0} elements do not make a whole of {whole:N0}");
        }
    }

    private void CheckOverlap(byte* whole, long wholeBytes, byte* part, long partBytes, bool ownPartAllowed)
    {
        if (whole < part + partBytes && part < whole + wholeBytes && !(ownPartAllowed && part == whole + (partBytes * Rank)))
        {
            throw new ArgumentException(ownPartAllowed
                ? $"the shard overlaps the whole elsewhere than at part {Rank}"
                : "what is sent overlaps what is received");
        }
    }

    private long Enqueue(CollectiveOperation kind, byte element, Reduction reduction, int root, long count, byte* from, byte* to)
    {
        var sequence = 0L;
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            while (_queued - _completed >= _operations.Length && _monitor.Failure is null)
            {
                Monitor.Wait(_gate);
            }

            if (_monitor.Failure is null)
            {
                sequence = _queued + 1;
                _operations[sequence % _operations.Length] = new(sequence, kind, element, reduction, root, count, from, to);
                _ring.Queue(sequence, kind, count, element, root);
                Volatile.Write(ref _queued, sequence);
                if (_thread is null)
                {
                    _stopped = false;
                    _thread = new Thread(Run, 256 << 10) { IsBackground = true, Name = $"z1 {Backend} {Group} {Rank}" };
                    _thread.Start();
                }

                Monitor.PulseAll(_gate);
            }
        }

        if (sequence == 0)
        {
            ThrowFailure();
        }

        return sequence;
    }

    private void WaitFor(long sequence)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sequence, Volatile.Read(ref _queued));
        if (Volatile.Read(ref _completed) >= sequence)
        {
            return;
        }

        lock (_gate)
        {
            while (_completed < sequence && _monitor.Failure is null)
            {
                Monitor.Wait(_gate);
            }
        }

        if (Volatile.Read(ref _completed) < sequence)
        {
            ThrowFailure();
        }
    }

    /// <summary>Throws the job's failure once the group's thread no longer touches the tensors.</summary>
    [DoesNotReturn]
    private void ThrowFailure()
    {
        var deadline = DateTime.UtcNow + s_release;
        lock (_gate)
        {
            while (!_stopped && DateTime.UtcNow < deadline)
            {
                Monitor.Wait(_gate, 100);
            }
        }

        var failure = _monitor.Failure!;
        throw new CollectiveException(_ring.TryGetRunning(out var record)
            && !failure.Contains($"#{record.Sequence}", StringComparison.Ordinal)
            ? $"{failure}; rank {_monitor.Rank} was in {record.Phrase}"
            : failure);
    }

    private void OnFailure()
    {
        Interrupt();
        lock (_gate)
        {
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>The group's thread.</summary>
    private void Run()
    {
        _staging = (byte*)NativeMemory.AlignedAlloc((nuint)_piece * (nuint)Size, 64);
        _headers = (Header*)NativeMemory.AlignedAlloc((nuint)sizeof(Header) * (nuint)Size, 64);
        _inputs = (byte**)NativeMemory.AlignedAlloc((nuint)sizeof(byte*) * (nuint)Size, 64);
        try
        {
            while (Next(out var operation))
            {
                _ring.Start(operation.Sequence);
                Execute(operation);
                _ring.Finish(operation.Sequence);
                lock (_gate)
                {
                    Volatile.Write(ref _completed, operation.Sequence);
                    Monitor.PulseAll(_gate);
                }
            }
        }
        catch (CollectiveException e)
        {
            _monitor.Abort(e.Message);
        }
        catch (Exception e)
        {
            _monitor.Abort($"rank {_monitor.Rank} failed in group {Group}: {e.Message}");
        }
        finally
        {
            NativeMemory.AlignedFree(_staging);
            NativeMemory.AlignedFree(_headers);
            NativeMemory.AlignedFree(_inputs);
            lock (_gate)
            {
                _stopped = true;
                Monitor.PulseAll(_gate);
            }
        }
    }

    private bool Next(out Operation operation)
    {
        lock (_gate)
        {
            while (_queued == _completed && !_stopping && _monitor.Failure is null)
            {
                Monitor.Wait(_gate);
            }

            var any = _queued > _completed && _monitor.Failure is null;
            operation = any ? _operations[(_completed + 1) % _operations.Length] : default;
            return any;
        }
    }

    private readonly struct Operation(
        long sequence, CollectiveOperation kind, byte element, Reduction reduction, int root, long count, byte* from, byte* to)
    {
        public readonly long Sequence = sequence, Count = count;
        public readonly byte* From = from, To = to;
        public readonly int Root = root;
        public readonly Reduction Reduction = reduction;
        public readonly CollectiveOperation Kind = kind;
        public readonly byte Element = element;
    }
}
