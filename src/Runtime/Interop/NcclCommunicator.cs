using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// One ncclComm_t. It is made non-blocking, and every call that NCCL leaves in progress is polled here until it is done, the time-out has
/// passed, or somebody has given up. One thread at a time enqueues; <see cref="Abort"/> and <see cref="FindError"/> may come from any
/// other.
/// </summary>
/// <remarks>Older libraries: without ncclCommInitRankConfig (before 2.14) the communicator blocks, and only Abort ends a wait for a peer;
/// without ncclCommSplit (before 2.18) <see cref="CanSplit"/> is false and the ranks of a group make a communicator of their own.</remarks>
internal sealed unsafe class NcclCommunicator : IDisposable
{
    /// <summary>The version, as NCCL_VERSION writes it, that brought ncclCommInitRankConfig and ncclCommFinalize.</summary>
    public const int ConfigSince = 21400;

    private const int SplitSince = 21800, LastErrorSince = 21300;
    private const int PollsBeforePause = 100;

    private static readonly TimeSpan s_patienceOfAbort = TimeSpan.FromSeconds(2);

    private readonly Lock _gate = new();
    private readonly CudaContext _context;
    private readonly NcclHandle _handle;
    private readonly TimeSpan _timeout;
    private volatile bool _givenUp;

    private NcclCommunicator(CudaContext context, nint value, int rank, int ranks, TimeSpan timeout)
    {
        (_context, Rank, Ranks, _timeout) = (context, rank, ranks, timeout);
        _handle = new(context, value);
    }

    /// <summary>The version of the library: 21805 for 2.18.5.</summary>
    /// <exception cref="NotSupportedException">no library; one sentence</exception>
    public static int Version
    {
        get
        {
            Require();
            int version;
            Check(Nccl.ncclGetVersion(&version));
            return version;
        }
    }

    public int Rank { get; }

    public int Ranks { get; }

    /// <summary>Whether the library divides communicators.</summary>
    public static bool CanSplit => Version >= SplitSince;

    /// <summary>2.18.5, say.</summary>
    public static string TextOf(int version) => version < 10000
        ? string.Create(CultureInfo.InvariantCulture, $"{version / 1000}.{version / 100 % 10}.{version % 100}")
        : string.Create(CultureInfo.InvariantCulture, $"{version / 10000}.{version / 100 % 100}.{version % 100}");

    /// <summary>An id for a communicator; one rank makes it, and its process must live until all ranks have joined.</summary>
    public static NcclUniqueId NewUniqueId()
    {
        Require();
        NcclUniqueId id;
        Check(Nccl.ncclGetUniqueId(&id));
        return id;
    }

    /// <summary>Joins the ranks that have the same id. Waits for all of them.</summary>
    /// <param name="context">of the device whose memory is reduced</param>
    /// <param name="ranks">in all</param>
    /// <param name="id">of one of them</param>
    /// <param name="rank">this one</param>
    /// <param name="timeout">of this and every other wait; zero or less: none</param>
    /// <exception cref="TimeoutException">the others did not come</exception>
    public static NcclCommunicator Join(CudaContext context, int ranks, NcclUniqueId id, int rank, TimeSpan timeout)
    {
        var version = Version;
        context.MakeCurrent();
        nint value = 0;
        NcclResult result;
        if (version >= ConfigSince)
        {
            var config = NcclConfig.NonBlocking();
            result = Nccl.ncclCommInitRankConfig(&value, ranks, id, rank, &config);
        }
        else
        {
            result = Nccl.ncclCommInitRank(&value, ranks, id, rank);
        }

        if (result is not (NcclResult.Success or NcclResult.InProgress))
        {
            Throw(result, 0, $"ncclCommInitRank(&comm, {ranks}, id, {rank})");
        }

        return new NcclCommunicator(context, value, rank, ranks, timeout).Ready($"ncclCommInitRank(&comm, {ranks}, id, {rank})");
    }

    /// <summary>The ranks of the same colour, in the order of <see cref="Rank"/>, as a communicator; every rank calls it.</summary>
    public NcclCommunicator Split(int color, int rank, int ranks)
    {
        // NCCL stores the result from a thread of its own, so it has a place that outlives this frame: when the wait is given up, these
        // eight bytes stay for ever
        const string Call = "ncclCommSplit(comm, color, rank, &child, null)";
        var place = (nint*)NativeMemory.AllocZeroed((nuint)sizeof(nint));
        Enter();
        lock (_gate)
        {
            ThrowIfClosed();
            Await(Nccl.ncclCommSplit(_handle.Value, color, Rank, place, null), Call);
        }

        var value = Volatile.Read(ref *place);
        NativeMemory.Free(place);
        return value != 0
            ? new NcclCommunicator(_context, value, rank, ranks, _timeout).Ready(Call)
            : throw new CollectiveException($"rank {Rank}: {Call} gave no communicator");
    }

    public void AllReduce(void* from, void* to, nuint count, int type, int op, nint stream)
    {
        Enter();
        lock (_gate)
        {
            ThrowIfClosed();
            Await(Nccl.ncclAllReduce(from, to, count, type, op, _handle.Value, stream));
        }
    }

    public void ReduceScatter(void* from, void* to, nuint count, int type, int op, nint stream)
    {
        Enter();
        lock (_gate)
        {
            ThrowIfClosed();
            Await(Nccl.ncclReduceScatter(from, to, count, type, op, _handle.Value, stream));
        }
    }

    public void AllGather(void* from, void* to, nuint count, int type, nint stream)
    {
        Enter();
        lock (_gate)
        {
            ThrowIfClosed();
            Await(Nccl.ncclAllGather(from, to, count, type, _handle.Value, stream));
        }
    }

    public void Broadcast(void* from, void* to, nuint count, int type, int root, nint stream)
    {
        Enter();
        lock (_gate)
        {
            ThrowIfClosed();
            Await(Nccl.ncclBroadcast(from, to, count, type, root, _handle.Value, stream));
        }
    }

    /// <summary>Part r of <paramref name="from"/> goes to rank r, part r of <paramref name="to"/> comes from it; a part has
    /// <paramref name="bytes"/>.</summary>
    public void AllToAll(byte* from, byte* to, nuint bytes, nint stream)
    {
        Enter();
        lock (_gate)
        {
            ThrowIfClosed();
            Await(Nccl.ncclGroupStart());
            try
            {
                for (var peer = 0; peer < Ranks; peer++)
                {
                    var offset = (nuint)peer * bytes;
                    Check(Nccl.ncclSend(from + offset, bytes, Nccl.Int8, peer, _handle.Value, stream));
                    Check(Nccl.ncclRecv(to + offset, bytes, Nccl.Int8, peer, _handle.Value, stream));
                }
            }
            catch
            {
                _ = Nccl.ncclGroupEnd();                        // or the next call would belong to the broken group
                throw;
            }

            Await(Nccl.ncclGroupEnd());
        }
    }

    /// <summary>What has failed in the background, or null. Does not wait: null also while another call is under way.</summary>
    public NcclException? FindError()
    {
        if (!_gate.TryEnter())
        {
            return null;
        }

        try
        {
            return _handle.IsClosed || State(out var call) is var state && state is NcclResult.Success or NcclResult.InProgress
                ? null
                : Failure(state, _handle.Value, call ? "ncclCommGetAsyncError(comm, &result)" : "work of the communicator");
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>Ends what is under way, here and in the device, and lets the communicator go; callable from any thread.</summary>
    public void Abort()
    {
        _givenUp = true;
        if (_gate.TryEnter(s_patienceOfAbort))
        {
            try
            {
                _handle.Dispose();
            }
            finally
            {
                _gate.Exit();
            }
        }
        else
        {
            _handle.Dispose();                                  // the thread that holds it hangs inside NCCL, and this is what ends that
        }
    }

    /// <summary>Waits until this rank's work is done and lets the communicator go; when that fails it is aborted.</summary>
    public void Dispose()
    {
        if (_handle.IsClosed || _givenUp)
        {
            Abort();
            return;
        }

        try
        {
            Enter();
            lock (_gate)
            {
                if (Version >= ConfigSince)
                {
                    Await(Nccl.ncclCommFinalize(_handle.Value), "ncclCommFinalize(comm)");
                }

                _handle.IsFinalized = true;
            }
        }
        catch (Exception e) when (e is NcclException or TimeoutException or CudaException)
        {
            _givenUp = true;
        }

        _handle.Dispose();
    }

    /// <summary>Throws unless there is a library. Before its first call NCCL is told not to let switches add (NVLS): their order differs from call to call,
    /// and a resumed run must come to the same bits. Who sets NCCL_NVLS_ENABLE or NCCL_ALGO decides otherwise.</summary>
    public static void Require()
    {
        // what Environment sets stays in .NET; NCCL reads the process's own
        if (Posix.getenv("NCCL_NVLS_ENABLE") == 0 && Posix.getenv("NCCL_ALGO") == 0)
        {
            _ = Posix.setenv("NCCL_NVLS_ENABLE", "0", 0);
        }

        if (NativeLibraries.OpenNamed(Nccl.Library) is { Handle: 0 } missing)
        {
            throw new NotSupportedException($"NCCL: {missing.NameOrReason}; {Advice}");
        }
    }

    /// <summary>What to do without it.</summary>
    public const string Advice = "several GPUs need it (install nvidia-nccl-cu12 of pip, or set Z1_NCCL to the path of libnccl.so.2)";

    private static void Check(NcclResult result, [CallerArgumentExpression(nameof(result))] string expression = "")
    {
        if (result is not (NcclResult.Success or NcclResult.InProgress))
        {
            Throw(result, 0, expression);
        }
    }

    [DoesNotReturn]
    private static void Throw(NcclResult result, nint comm, string expression) => throw Failure(result, comm, expression);

    private static NcclException Failure(NcclResult result, nint comm, string expression)
    {
        int version;
        var detail = Nccl.ncclGetVersion(&version) == NcclResult.Success && version >= LastErrorSince
            ? Marshal.PtrToStringUTF8((nint)Nccl.ncclGetLastError(comm)) ?? ""
            : "";
        var text = Marshal.PtrToStringUTF8((nint)Nccl.ncclGetErrorString(result)) ?? "";
        var call = expression.Replace("Nccl.", "", StringComparison.Ordinal).Replace("_handle.Value", "comm", StringComparison.Ordinal);
        return new(result, text, detail, call);
    }

    /// <summary>This, once all ranks have joined.</summary>
    private NcclCommunicator Ready(string call)
    {
        try
        {
            Await(NcclResult.InProgress, call);
            return this;
        }
        catch
        {
            Abort();
            throw;
        }
    }

    private void Enter()
    {
        _context.MakeCurrent();
        ThrowIfClosed();
    }

    private void ThrowIfClosed()
    {
        if (_givenUp)
        {
            throw new CollectiveException($"rank {Rank}: the communicator was aborted");
        }

        ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
    }

    /// <summary>Polls while NCCL is at it.</summary>
    private void Await(NcclResult result, [CallerArgumentExpression(nameof(result))] string expression = "")
    {
        var start = 0L;
        for (var polls = 0; result == NcclResult.InProgress; polls++)
        {
            if (_givenUp)
            {
                throw new CollectiveException($"rank {Rank}: the communicator was aborted");
            }

            start = start == 0 ? Stopwatch.GetTimestamp() : start;
            if (_timeout > TimeSpan.Zero && Stopwatch.GetElapsedTime(start) > _timeout)
            {
                throw new TimeoutException($"{expression} is in progress for {_timeout.TotalSeconds:F0} s: not all ranks have come");
            }

            if (polls < PollsBeforePause)
            {
                Thread.Yield();
            }
            else
            {
                Thread.Sleep(1);
            }

            result = State(out var call);
            if (call)
            {
                expression = "ncclCommGetAsyncError(comm, &result)";
            }
        }

        if (result != NcclResult.Success)
        {
            Throw(result, _handle.Value, expression);
        }
    }

    private NcclResult State(out bool callFailed)
    {
        NcclResult state;
        var result = Nccl.ncclCommGetAsyncError(_handle.Value, &state);
        callFailed = result != NcclResult.Success;
        return callFailed ? result : state;
    }
}
