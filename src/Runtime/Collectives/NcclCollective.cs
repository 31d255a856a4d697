using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// Ranks with a GPU each, over NCCL. Operations run on a <see cref="CudaStream"/> of their own, beside the compute stream; events order the
/// two: an operation begins when what was enqueued before it is done, and <see cref="Wait"/> lets the compute stream wait for its end. One
/// rank is the same path.
/// </summary>
/// <remarks>The watchdog of the <see cref="CollectiveMonitor"/> follows the operations by their events: the time of one counts from the
/// moment that the device reaches it. It also asks NCCL for errors of the background. Sums of tensors are NCCL's: equal bits on every rank,
/// in an order that NCCL chooses by topology and size, and keeps from call to call because switches do not add (<see cref="NcclCommunicator.Require"/>). Values on the host are gathered and added here, in rank order.</remarks>
public sealed unsafe class NcclCollective : ICollective
{
    private const int HostValues = 64;                          // of one piece of AllReduce(Span)

    private static readonly TimeSpan s_patienceForReason = TimeSpan.FromSeconds(2), s_patienceAtEnd = TimeSpan.FromSeconds(5);

    private readonly CollectiveMonitor _monitor;
    private readonly CollectiveRing _ring;
    private readonly NcclCommunicator _communicator;
    private readonly CudaEvent[] _ready, _done;
    private readonly Arena _arena;
    private readonly Tensor<double> _mine, _all;
    private readonly PinnedBuffer<double> _pinned;
    private readonly Lock _polling = new();
    private long _last, _started, _finished;
    private bool _disposed;

    /// <summary>Joins the ranks that have the same id; waits for all of them. Takes nothing over: the caller disposes device and monitor,
    /// later.</summary>
    /// <param name="device">of this rank; no two ranks share one (hostcuda: any)</param>
    /// <param name="monitor">of this job</param>
    /// <param name="rank">this one</param>
    /// <param name="size">ranks in all</param>
    /// <param name="uniqueId">what <see cref="NewUniqueId"/> gave to one of them</param>
    /// <exception cref="NotSupportedException">no NCCL here; one sentence</exception>
    /// <exception cref="CollectiveException">NCCL failed, or not all came within <see cref="CollectiveOptions.JoinTimeout"/></exception>
    public NcclCollective(CudaDevice device, CollectiveMonitor monitor, int rank, int size, ReadOnlySpan<byte> uniqueId)
        : this(device, monitor, Join(device, monitor, rank, size, NcclUniqueId.From(uniqueId)), CollectiveRecord.World)
    {
    }

    private NcclCollective(CudaDevice device, CollectiveMonitor monitor, NcclCommunicator communicator, string name)
    {
        (Device, _monitor, _communicator) = (device, monitor, communicator);
        Stream = new CudaStream(device);
        var slots = Math.Max(monitor.Options.QueueSize, 1);
        _ready = Events(device, slots);
        _done = Events(device, slots);
        _arena = Stream.CreateArena($"nccl {name}");
        _mine = _arena.Declare<double>(HostValues);
        _all = _arena.Declare<double>(HostValues * Size);
        _arena.Allocate();
        _pinned = new(device, HostValues * Size);
        _ring = monitor.Register(name, communicator.Abort, Poll);
    }

    /// <inheritdoc/>
    public int Rank => _communicator.Rank;

    /// <inheritdoc/>
    public int Size => _communicator.Ranks;

    /// <inheritdoc/>
    public string Backend => "nccl";

    /// <summary>The device of this rank.</summary>
    public CudaDevice Device { get; }

    /// <summary>Where the operations run; give it a <see cref="CudaTrace"/> to see them beside the compute stream.</summary>
    public CudaStream Stream { get; }

    /// <summary>The group of all ranks that joined <paramref name="rendezvous"/>; each of them calls it. The rendezvous is disposed after
    /// it, by the caller.</summary>
    /// <exception cref="NotSupportedException">no NCCL here; one sentence</exception>
    /// <exception cref="CollectiveException">NCCL failed, or not all came within <see cref="CollectiveOptions.JoinTimeout"/></exception>
    public static NcclCollective Create(CudaDevice device, Rendezvous rendezvous)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(rendezvous);
        const string Key = "nccl unique id";
        byte[] id;
        try
        {
            if (rendezvous.Rank == 0)
            {
                id = NewUniqueId();
                rendezvous.Put(Key, id);
            }
            else
            {
                NcclCommunicator.Require();
                id = rendezvous.Get(Key);
            }
        }
        catch (Exception e) when (e is NcclException or NotSupportedException)
        {
            var sentence = $"rank {rendezvous.Rank} of {rendezvous.Size} cannot use NCCL: {e.Message}";
            rendezvous.Abort(sentence);
            throw new CollectiveException(sentence, e);
        }

        return new(device, rendezvous, rendezvous.Rank, rendezvous.Size, id);
    }

    /// <summary>128 bytes for one communicator: one rank makes them, the others are told. The process that makes them must live until all
    /// have joined.</summary>
    /// <exception cref="NotSupportedException">no NCCL here; one sentence</exception>
    public static byte[] NewUniqueId() => NcclCommunicator.NewUniqueId().ToArray();

    /// <summary>Whether NCCL can be loaded; <paramref name="reason"/> is one sentence when not. Ask after the device is open: hostcuda has
    /// its own.</summary>
    public static bool IsAvailable(out string reason)
    {
        try
        {
            NcclCommunicator.Require();
            reason = "";
            return true;
        }
        catch (NotSupportedException e)
        {
            reason = e.Message;
            return false;
        }
    }

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">the largest: NCCL's may drop a NaN</exception>
    public long AllReduce<T>(ComputeStream stream, Tensor<T> data, Reduction reduction)
        where T : unmanaged
    {
        var type = TypeOf<T>(reduction);
        var address = On(data, data.Count);
        return Enqueue(Order(stream), CollectiveOperation.AllReduce, address, address, data.Count, CollectiveElement.Of<T>(), type);
    }

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">the largest: NCCL's may drop a NaN</exception>
    public long ReduceScatter<T>(ComputeStream stream, Tensor<T> whole, Tensor<T> shard, Reduction reduction)
        where T : unmanaged
    {
        var type = TypeOf<T>(reduction);
        var (from, to) = ((nint)On(whole, shard.Count * Size), (nint)On(shard, shard.Count));
        var element = CollectiveElement.Of<T>();
        return Enqueue(Order(stream), CollectiveOperation.ReduceScatter, (void*)from, (void*)to, shard.Count, element, type);
    }

    /// <inheritdoc/>
    public long AllGather<T>(ComputeStream stream, Tensor<T> shard, Tensor<T> whole)
        where T : unmanaged
    {
        var (from, to) = ((nint)On(shard, shard.Count), (nint)On(whole, shard.Count * Size));
        var element = CollectiveElement.Of<T>();
        return Enqueue(Order(stream), CollectiveOperation.AllGather, (void*)from, (void*)to, shard.Count, element, Nccl.Int8);
    }

    /// <inheritdoc/>
    public long AllToAll<T>(ComputeStream stream, Tensor<T> sent, Tensor<T> received)
        where T : unmanaged
    {
        if (sent.Count % Size != 0)
        {
            throw new ArgumentException($"{sent.Count:N0} elements are not {Size} equal parts");
        }

        var (from, to) = ((nint)On(sent, sent.Count), (nint)On(received, sent.Count));
        var element = CollectiveElement.Of<T>();
        return Enqueue(Order(stream), CollectiveOperation.AllToAll, (void*)from, (void*)to, sent.Count, element, Nccl.Int8);
    }

    /// <inheritdoc/>
    public long Broadcast<T>(ComputeStream stream, Tensor<T> data, int root)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfNegative(root);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(root, Size);
        var address = On(data, data.Count);
        var element = CollectiveElement.Of<T>();
        return Enqueue(Order(stream), CollectiveOperation.Broadcast, address, address, data.Count, element, Nccl.Int8, root);
    }

    /// <inheritdoc/>
    public void Wait(ComputeStream stream, long sequence)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(sequence);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sequence, _last);
        _monitor.ThrowIfFailed();
        if (Volatile.Read(ref _finished) < sequence)
        {
            Order(stream).Wait(_done[sequence % _done.Length]);
        }

        ThrowIfFailed();
    }

    /// <inheritdoc/>
    public void AllReduce(Span<double> values, Reduction reduction)
    {
        for (var first = 0; first < values.Length; first += HostValues)
        {
            var piece = values[first..Math.Min(first + HostValues, values.Length)];
            Gather(piece, CollectiveOperation.HostAllReduce);
            var all = _pinned.Span;
            for (var i = 0; i < piece.Length; i++)
            {
                var value = all[i];
                for (var rank = 1; rank < Size; rank++)
                {
                    var other = all[(rank * piece.Length) + i];
                    value = reduction == Reduction.Sum ? value + other : Math.Max(value, other);
                }

                piece[i] = value;
            }
        }
    }

    /// <inheritdoc/>
    public void Barrier() => Gather([0], CollectiveOperation.Barrier);

    /// <inheritdoc/>
    public ICollective Split(int color, string name)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(color);
        Gather([color], CollectiveOperation.Split);
        var (rank, size, first) = (0, 0, -1);
        for (var other = 0; other < Size; other++)
        {
            if (_pinned.Span[other] == color)
            {
                first = first < 0 ? other : first;
                rank += other < Rank ? 1 : 0;
                size++;
            }
        }

        try
        {
            var part = NcclCommunicator.CanSplit ? _communicator.Split(color, rank, size) : JoinPart(first, rank, size);
            return new NcclCollective(Device, _monitor, part, name);
        }
        catch (Exception e) when (e is NcclException or TimeoutException or CollectiveException)
        {
            throw Failed(e, string.Create(CultureInfo.InvariantCulture, $"split into group {name}"));
        }
    }

    /// <inheritdoc/>
    public void Abort(string reason) => _monitor.Abort($"rank {_monitor.Rank} gave up: {reason}");

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        AwaitEnd();
        _disposed = true;
        if (_monitor.Failure is null)
        {
            _communicator.Dispose();
        }
        else
        {
            _communicator.Abort();
        }

        _monitor.Unregister(_ring);
        lock (_polling)
        {
            Stream.Dispose();
            _pinned.Dispose();
            _arena.Dispose();
            foreach (var e in _ready.Concat(_done))
            {
                e.Dispose();
            }
        }
    }

    private static CudaEvent[] Events(CudaDevice device, int count)
    {
        var events = new CudaEvent[count];
        for (var i = 0; i < count; i++)
        {
            events[i] = new(device);
        }

        return events;
    }

    private static NcclCommunicator Join(CudaDevice device, CollectiveMonitor monitor, int rank, int size, NcclUniqueId id)
    {
        try
        {
            return NcclCommunicator.Join(device.Context, size, id, rank, monitor.Options.JoinTimeout);
        }
        catch (Exception e) when (e is NcclException or TimeoutException)
        {
            var sentence = $"rank {rank} of {size} cannot join over NCCL: {e.Message}";
            monitor.Abort(sentence);
            throw new CollectiveException(sentence, e);
        }
    }

    private static int TypeOf<T>(Reduction reduction)
        where T : unmanaged =>
        reduction != Reduction.Sum
            ? throw new NotSupportedException(
                "over NCCL tensors are summed: its maximum may drop a NaN; reduce the largest value as a double on the host")
            : CollectiveElement.Reducible<T>() switch
            {
                CollectiveElement.Float => Nccl.Float,
                CollectiveElement.Double => Nccl.Double,
                _ => Nccl.BFloat16,
            };

    /// <summary>Ranks of one colour without ncclCommSplit: the first of them makes an id, which all ranks gather.</summary>
    private NcclCommunicator JoinPart(int first, int rank, int size)
    {
        Span<double> values = stackalloc double[NcclUniqueId.Size / sizeof(double)];
        if (first == Rank)
        {
            NewUniqueId().CopyTo(MemoryMarshal.AsBytes(values));
        }

        Gather(values, CollectiveOperation.Split);
        var id = NcclUniqueId.From(MemoryMarshal.AsBytes(_pinned.Span.Slice(first * values.Length, values.Length)));
        return NcclCommunicator.Join(Device.Context, size, id, rank, _monitor.Options.JoinTimeout);
    }

    /// <summary>The values of every rank, in rank order, at the start of the pinned buffer; the bits are only moved.</summary>
    private void Gather(ReadOnlySpan<double> values, CollectiveOperation operation)
    {
        _monitor.ThrowIfFailed();
        values.CopyTo(_pinned.Span);
        var mine = _mine.Prefix(values.Length);
        var all = _all.Prefix(values.Length * Size);
        Stream.Upload(_pinned, mine);
        Enqueue(Stream, operation, mine.Pointer, all.Pointer, values.Length, CollectiveElement.Double, Nccl.Double);
        Stream.Download(all, _pinned);
        Stream.Synchronize();
        ThrowIfFailed();
    }

    private long Enqueue(
        CudaStream stream, CollectiveOperation operation, void* from, void* to, long count, byte element, int type, int root = -1)
    {
        Poll();
        _monitor.ThrowIfFailed();
        var sequence = _last + 1;
        var slot = sequence % _ready.Length;
        while (Volatile.Read(ref _finished) + _ready.Length < sequence)
        {
            _done[slot].Synchronize();
            Poll();
            _monitor.ThrowIfFailed();
        }

        _ring.Queue(sequence, operation, count, element, root);
        stream.Record(_ready[slot]);
        Stream.Wait(_ready[slot]);
        var span = Stream.BeginSpan(NameOf(operation));
        try
        {
            Call(operation, from, to, count, element, type, root);
        }
        catch (Exception e) when (e is NcclException or TimeoutException or CollectiveException)
        {
            throw Failed(e, Phrase(sequence, operation, count, element, root));
        }

        Stream.EndSpan(span);
        Stream.Record(_done[slot]);
        Volatile.Write(ref _last, sequence);
        return sequence;
    }

    private void Call(CollectiveOperation operation, void* from, void* to, long count, byte element, int type, int root)
    {
        var stream = Stream.Value;
        var bytes = (nuint)(count * CollectiveElement.SizeOf(element));
        switch (operation)
        {
            case CollectiveOperation.AllReduce:
                _communicator.AllReduce(from, to, (nuint)count, type, Nccl.Sum, stream);
                break;
            case CollectiveOperation.ReduceScatter:
                _communicator.ReduceScatter(from, to, (nuint)count, type, Nccl.Sum, stream);
                break;
            case CollectiveOperation.AllToAll:
                _communicator.AllToAll((byte*)from, (byte*)to, bytes / (nuint)Size, stream);
                break;
            case CollectiveOperation.Broadcast:
                _communicator.Broadcast(from, to, bytes, Nccl.Int8, root, stream);
                break;
            default:
                _communicator.AllGather(from, to, bytes, Nccl.Int8, stream);
                break;
        }
    }

    /// <summary>Follows the operations by their events: one has started when its data is ready and the one before it has
    /// finished.</summary>
    private void Poll()
    {
        if (!_polling.TryEnter())
        {
            return;
        }

        try
        {
            if (_disposed)
            {
                return;
            }

            for (var last = Volatile.Read(ref _last); _finished < last;)
            {
                var next = _finished + 1;
                var slot = next % _ready.Length;
                if (_started < next)
                {
                    if (!_ready[slot].IsDone)
                    {
                        break;
                    }

                    _started = next;
                    _ring.Start(next);
                }

                if (!_done[slot].IsDone)
                {
                    break;
                }

                _ring.Finish(next);
                Volatile.Write(ref _finished, next);
            }

            FailOnError();
        }
        catch (CudaException e)
        {
            _monitor.Abort($"rank {Rank}: the device failed: {e.Message}");
        }
        finally
        {
            _polling.Exit();
        }
    }

    private void FailOnError()
    {
        if (_monitor.Failure is null && _communicator.FindError() is { } error)
        {
            AwaitReason(error);

            var doing = _ring.TryGetRunning(out var record) ? $" in {record.Phrase}" : "";
            _monitor.Abort($"rank {Rank}{doing}: {error.Message}");
        }
    }

    private void ThrowIfFailed()
    {
        FailOnError();
        _monitor.ThrowIfFailed();
    }

    /// <summary>Where the cause is on another rank, what that rank says of it is on its way.</summary>
    private void AwaitReason(Exception e)
    {
        if (e is CollectiveException or NcclException { Result: NcclResult.RemoteError })
        {
            SpinWait.SpinUntil(() => _monitor.Failure is not null, s_patienceForReason);
        }
    }

    /// <summary>What is under way gets a moment to end; when it does not, the others have not come and would wait in vain.</summary>
    private void AwaitEnd()
    {
        var begin = Stopwatch.GetTimestamp();
        for (Poll(); _monitor.Failure is null && Volatile.Read(ref _finished) < _last; Poll())
        {
            if (Stopwatch.GetElapsedTime(begin) > s_patienceAtEnd)
            {
                var outstanding = _ring.TryGetRunning(out var record) ? record.Phrase : "an operation";
                _monitor.Abort($"rank {_monitor.Rank} left group {_ring.Group} with {outstanding} outstanding");
            }

            Thread.Sleep(1);
        }
    }

    private CollectiveException Failed(Exception e, string phrase)
    {
        AwaitReason(e);
        _monitor.Abort($"rank {Rank} in {phrase}: {e.Message}");
        return new CollectiveException(_monitor.Failure ?? e.Message, e);
    }

    private string Phrase(long sequence, CollectiveOperation operation, long count, byte element, int root) =>
        new CollectiveRecord(_ring.Group, sequence, operation, count, element, root, CollectiveState.Queued, 0).Phrase;

    private static string NameOf(CollectiveOperation operation) => operation switch
    {
        CollectiveOperation.AllReduce => "nccl all-reduce",
        CollectiveOperation.ReduceScatter => "nccl reduce-scatter",
        CollectiveOperation.AllGather => "nccl all-gather",
        CollectiveOperation.AllToAll => "nccl all-to-all",
        CollectiveOperation.Broadcast => "nccl broadcast",
        _ => "nccl host values",
    };

    /// <summary>The stream whose work the operation follows.</summary>
    private CudaStream Order(ComputeStream stream)
    {
        if (stream is not CudaStream cuda || !ReferenceEquals(cuda.Device, Device))
        {
            throw new ArgumentException($"NCCL orders work of {Device}, not of {stream?.DeviceName}");
        }

        return !cuda.IsCapturing ? cuda : throw new InvalidOperationException("a collective is not possible while the stream captures");
    }

    private T* On<T>(Tensor<T> tensor, long count)
        where T : unmanaged
    {
        if (!ReferenceEquals(tensor.Device, Device))
        {
            throw new ArgumentException($"the tensor of arena '{tensor.ArenaName}' is not on {Device}");
        }

        return tensor.Count == count
            ? tensor.Pointer
            : throw new ArgumentException($"a tensor of {tensor.Count:N0} elements where {Size} ranks need {count:N0}");
    }
}
