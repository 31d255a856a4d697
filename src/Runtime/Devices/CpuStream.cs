using System.Runtime.ExceptionServices;

namespace Z1Coder.Runtime;

/// <summary>
/// Runs each operation at once, spread over the cores. Workers are kept threads that spin for a moment and then sleep. Items are handed
/// out in chunks as workers become free, so a job must give each item the same bits whoever runs it: split rows, never a reduction. A job that is done
/// waits for the workers that took part in it, not for one that has no core to run on: on a machine that others use too it would wait long.
/// </summary>
public sealed class CpuStream : ComputeStream
{
    private const int SpinsBeforeSleep = 2000;

    private const long NextJob = 1L << 32, Joinable = 1L << 31, Members = Joinable - 1;

    private const int Padding = 16;                     // ints per cache line: one worker's flag does not share another's

    private readonly Thread[] _threads;
    private readonly int[] _asleep;
    private readonly SemaphoreSlim[] _wake;
    private readonly object _gate = new();
    private Slot? _slot;
    private long _state;                                // the job's number, whether it can be joined, and how many workers are in it
    private volatile bool _stopping;

    /// <summary>A stream over <paramref name="workers"/> threads, the caller included; 0 takes every core this process may use.</summary>
    public CpuStream(int workers = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(workers);
        Workers = workers == 0 ? Environment.ProcessorCount : workers;
        _threads = new Thread[Workers - 1];
        _asleep = new int[(Workers + 1) * Padding];
        _wake = new SemaphoreSlim[Workers - 1];
        for (var i = 0; i < _threads.Length; i++)
        {
            var worker = i + 1;
            _wake[i] = new SemaphoreSlim(0);
            _threads[i] = new Thread(() => Work(worker)) { IsBackground = true, Name = $"z1 cpu {worker}" };
            _threads[i].Start();
        }
    }

    /// <summary>Threads that run a job, the calling one included.</summary>
    public int Workers { get; }

    /// <summary>No worker is in a job, and none can join one: so it is between two calls of <see cref="For"/>.</summary>
    internal bool IsIdle => (Volatile.Read(ref _state) & (Joinable | Members)) == 0;

    /// <inheritdoc/>
    public override string DeviceName => $"cpu ({Workers} threads)";

    /// <summary>Runs <paramref name="job"/> over items 0..<paramref name="count"/> in chunks of <paramref name="grain"/>; returns when all are done.</summary>
    /// <remarks>Called from one thread at a time; not from inside a job. The first exception of any worker is rethrown here.</remarks>
    public void For<TJob>(int count, int grain, in TJob job)
        where TJob : struct, ICpuJob
    {
        ObjectDisposedException.ThrowIf(_stopping, this);
        if (count <= 0)
        {
            return;
        }

        grain = Math.Max(1, grain);
        if (Workers == 1 || count <= grain)
        {
            var alone = job;
            alone.Run(0, count, 0);
            return;
        }

        lock (_gate)
        {
            var slot = Slot<TJob>.OfThisThread;
            slot.Prepare(job, count, grain);
            _slot = slot;
            Interlocked.Exchange(ref _state, ((_state & ~(Joinable | Members)) + NextJob) | Joinable);      // closed and empty until here: nobody else writes
            for (var i = 0; i < _wake.Length; i++)
            {
                if (Interlocked.Exchange(ref _asleep[(i + 1) * Padding], 0) == 1)
                {
                    _wake[i].Release();
                }
            }

            slot.Drain(0);
            Interlocked.And(ref _state, ~Joinable);
            var spinner = new SpinWait();
            while ((Volatile.Read(ref _state) & Members) != 0)
            {
                spinner.SpinOnce(-1);
            }

            slot.Rethrow();
        }
    }

    /// <inheritdoc/>
    public override Arena CreateArena(string name) => new(name);

    /// <inheritdoc/>
    public override Arena CreateHostArena(string name) => new(name);

    /// <summary>Nothing to wait for: every operation has finished when its call returns.</summary>
    public override void Synchronize()
    {
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (_stopping)
        {
            return;
        }

        lock (_gate)
        {
            _stopping = true;
            foreach (var wake in _wake)
            {
                wake.Release();
            }
        }

        foreach (var thread in _threads)
        {
            thread.Join();
        }

        foreach (var wake in _wake)
        {
            wake.Dispose();
        }
    }

    private void Work(int worker)
    {
        var done = 0L;
        ref var asleep = ref _asleep[worker * Padding];
        while (!_stopping)
        {
            var spins = 0;
            while (!Waits(Volatile.Read(ref _state), done))
            {
                if (++spins < SpinsBeforeSleep)
                {
                    Thread.SpinWait(8);
                    continue;
                }

                Interlocked.Exchange(ref asleep, 1);
                if (!_stopping && !Waits(Volatile.Read(ref _state), done))
                {
                    _wake[worker - 1].Wait();
                }
                else if (Interlocked.Exchange(ref asleep, 0) == 0)
                {
                    _wake[worker - 1].Wait();     // the caller saw us asleep and has released, or is about to
                }

                spins = 0;
                if (_stopping)
                {
                    return;
                }
            }

            var state = Volatile.Read(ref _state);
            if (Waits(state, done) && Interlocked.CompareExchange(ref _state, state + 1, state) == state)
            {
                done = state & ~(Joinable | Members);
                _slot!.Drain(worker);
                Interlocked.Decrement(ref _state);
            }
        }

        static bool Waits(long state, long done) => (state & Joinable) != 0 && (state & ~(Joinable | Members)) != done;
    }

    /// <summary>The job in progress, behind one virtual call; one instance per job type and calling thread, made once.</summary>
    private abstract class Slot
    {
        public abstract void Drain(int worker);
    }

    private sealed class Slot<TJob> : Slot
        where TJob : struct, ICpuJob
    {
        [ThreadStatic]
        private static Slot<TJob>? t_slot;

        private TJob _job;
        private int _count, _grain, _next;
        private ExceptionDispatchInfo? _failure;

        public static Slot<TJob> OfThisThread => t_slot ??= new();

        public void Prepare(in TJob job, int count, int grain)
        {
            _job = job;
            _count = count;
            _grain = grain;
            _failure = null;
            Volatile.Write(ref _next, 0);
        }

        public override void Drain(int worker)
        {
            try
            {
                while (true)
                {
                    var begin = Interlocked.Add(ref _next, _grain) - _grain;
                    if (begin >= _count || begin < 0)
                    {
                        return;
                    }

                    _job.Run(begin, Math.Min(begin + _grain, _count), worker);
                }
            }
            catch (Exception e)
            {
                Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(e), null);
                Volatile.Write(ref _next, _count);
            }
        }

        public void Rethrow()
        {
            var failure = _failure;
            _failure = null;
            _job = default;
            failure?.Throw();
        }
    }
}
