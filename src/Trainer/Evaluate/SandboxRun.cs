using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// One confined run, on the calling thread: start, watch, kill when a limit is passed, collect, judge. The program is a confinement of its own, or one
/// more of a <see cref="SandboxWorker"/>, whose status pipe then says when it has ended.
/// </summary>
internal sealed class SandboxRun
{
    private const int TickMilliseconds = 25;            // how often memory and CPU of the tree are sampled and cancellation is seen
    private const double StartSeconds = 60;             // until the interpreter is ready; longer means a broken machine, not a slow program
    private const double KillSeconds = 10;
    private const int SignalBase = 128;
    private const int CpuSignal = 24;                   // SIGXCPU
    private const int ProofKeptBytes = 4096;

    private readonly SandboxLimits _limits;
    private readonly Kept _out;
    private readonly Kept _error;
    private readonly Kept _proof = new(ProofKeptBytes);
    private readonly string _token = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
    private readonly byte[] _buffer = new byte[64 << 10];

    private double _sampledCpuSeconds;
    private Kept? _status;

    private bool HasStarted => (_status ?? _proof).Text.Contains(SandboxHarness.Started, StringComparison.Ordinal);

    private SandboxRun(SandboxLimits limits)
    {
        _limits = limits;
        _out = new Kept(limits.OutputKeptBytes);
        _error = new Kept(limits.OutputKeptBytes);
    }

    internal static SandboxResult Run(SandboxHost host, SandboxProgram program, SandboxLimits limits, int slot, CancellationToken cancellation) =>
        new SandboxRun(limits).Run(host, program, slot, cancellation);

    private SandboxResult Run(SandboxHost host, SandboxProgram program, int slot, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var (path, arguments) = host.Command(_limits, slot, infoDescriptor: 5, filterDescriptor: 6);
        var (outRead, outWrite) = ChildProcess.Pipe();
        var (errorRead, errorWrite) = ChildProcess.Pipe();
        var (proofRead, proofWrite) = ChildProcess.SocketPair();
        using var stdin = ChildProcess.SealedFile(Encoding.UTF8.GetBytes(program.Stdin));
        using var control = ChildProcess.SealedFile(Control(program));
        using var filter = ChildProcess.SealedFile(SyscallFilter.Build());
        using var hosts = ChildProcess.SealedFile(SandboxHost.Hosts);
        using var sources = ChildProcess.SealedFile(SandboxHost.NameSources);
        using (outRead)
        using (errorRead)
        using (proofRead)
        {
            ChildProcess child;
            using (outWrite)
            using (errorWrite)
            using (proofWrite)
            {
                child = ChildProcess.Start(
                    path, arguments, SandboxHost.Environment, [stdin, outWrite, errorWrite, control, proofWrite, proofWrite, filter, hosts, sources]);
            }

            using (child)
            {
                return Watch(child, outRead, errorRead, proofRead, cancellation);
            }
        }
    }

    /// <summary>The next program of a worker; null when the worker ended without having been told to.</summary>
    internal static SandboxResult? Run(SandboxWorker worker, SandboxProgram program, SandboxLimits limits, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var run = new SandboxRun(limits) { _status = new Kept(ProofKeptBytes) };
        worker.Send(limits, Encoding.UTF8.GetBytes(program.Stdin), run.Control(program));
        return run.Watch(worker.Child, worker.Out, worker.Error, worker.Proof, worker, cancellation);
    }

    private SandboxResult Watch(
        ChildProcess child, SafeFileHandle outRead, SafeFileHandle errorRead, SafeFileHandle proofRead, CancellationToken cancellation) =>
        Watch(child, outRead, errorRead, proofRead, null, cancellation)!;

    private SandboxResult? Watch(
        ChildProcess child, SafeFileHandle outRead, SafeFileHandle errorRead, SafeFileHandle proofRead, SandboxWorker? worker, CancellationToken cancellation)
    {
        SafeFileHandle?[] polled = [outRead, errorRead, proofRead, child.Handle, worker?.Status];
        Kept?[] sinks = [_out, _error, _proof, null, _status];
        SafeFileHandle? init = null;
        SandboxOutcome? ended = null;
        (int Code, double CpuSeconds, bool Keep)? told = null;
        var first = 0;
        var started = false;
        var cancelled = false;
        var clock = Stopwatch.StartNew();
        var killedAt = double.PositiveInfinity;
        var startedAt = 0.0;
        var nextSample = 0.0;
        try
        {
            while (true)
            {
                var now = clock.Elapsed.TotalSeconds;
                var deadline = double.IsFinite(killedAt) ? killedAt + KillSeconds : started ? startedAt + _limits.WallSeconds : StartSeconds;
                ChildProcess.Poll(polled, (int)Math.Clamp(Math.Ceiling((deadline - now) * 1000), 0, TickMilliseconds));
                for (var i = 0; i < sinks.Length; i++)
                {
                    if (polled[i] is { } pipe && sinks[i] is { } sink && !Drain(pipe, sink))
                    {
                        polled[i] = null;
                    }
                }

                now = clock.Elapsed.TotalSeconds;
                if (!started && HasStarted)
                {
                    (started, startedAt, nextSample) = (true, now, now + TickMilliseconds / 1e3);
                    init?.Dispose();                    // found when it was killed: it had not started then
                    (first, init) = worker is null ? FindInit(child, _proof.Text) : (worker.Process, null);
                }

                told = _status is null ? null : Told(_status.Text);
                if (told is not null || ChildProcess.Poll([child.Handle], 0))
                {
                    break;
                }

                if (double.IsFinite(killedAt))
                {
                    if (now > killedAt + KillSeconds)
                    {
                        child.Kill();
                    }
                }
                else
                {
                    long resident = 0;
                    if (first != 0 && now >= nextSample)
                    {
                        // The server's own time is of all its programs; this program is its one child.
                        (_sampledCpuSeconds, resident) = worker is null ? ProcessTree.Sample(first) : ProcessTree.SampleChildren(first);
                        nextSample = clock.Elapsed.TotalSeconds + TickMilliseconds / 1e3;
                    }

                    cancelled = cancellation.IsCancellationRequested;
                    ended = _out.Total + _error.Total + _proof.Total > _limits.OutputBytes ? SandboxOutcome.OutputLimit
                        : resident > (_limits.ResidentBytes ?? _limits.MemoryBytes) ? SandboxOutcome.OutOfMemory
                        : _sampledCpuSeconds > _limits.CpuSeconds ? SandboxOutcome.TimedOut
                        : started && now >= startedAt + _limits.WallSeconds ? SandboxOutcome.TimedOut
                        : null;
                    if (ended is null && !cancelled && (started || now <= StartSeconds))
                    {
                        continue;
                    }

                    killedAt = now;
                    worker?.Kill();                     // the whole confinement: what passed a limit does not end by itself
                }

                // bwrap sees process 1 of the namespace end only after all others: nothing is left. Their CPU time is lost then; the last sample
                // stands. bwrap itself is not killed: until it has said which process it made, that one waits for it and would do so for ever.
                init ??= worker is null ? FindInit(child, _proof.Text).Handle : null;
                if (init is not null)
                {
                    ChildProcess.Kill(init);
                }
            }

            var wall = clock.Elapsed.TotalSeconds - startedAt;
            var (code, cpu, keep) = told ?? EndOf(child);
            if (worker is not null && !keep)
            {
                worker.Retire();
            }

            for (var i = 0; i < sinks.Length; i++)
            {
                // Everyone in the namespace is dead: each pipe is at its end after what it still holds, and a worker's pipes are empty then.
                while (polled[i] is { } pipe && sinks[i] is { } sink && Drain(pipe, sink) && ChildProcess.Poll([pipe], worker is null ? TickMilliseconds : 0))
                {
                }
            }

            if (cancelled)
            {
                cancellation.ThrowIfCancellationRequested();
            }

            if (worker is not null && told is null && ended is null && started)
            {
                return null;
            }

            if (!started && !HasStarted)
            {
                throw new SandboxException($"The confined interpreter did not start (exit status {code}): {_error.Text.Trim().ReplaceLineEndings(" ")}");
            }

            return new SandboxResult(ended ?? Judge(code), code, _out.Text, _error.Text, wall, Math.Max(cpu, _sampledCpuSeconds));
        }
        finally
        {
            if (init is not null)
            {
                ChildProcess.Kill(init);
                init.Dispose();
            }
        }
    }

    private static (int Code, double CpuSeconds, bool Keep) EndOf(ChildProcess child)
    {
        var exit = child.Wait();
        return (exit.Code, exit.CpuSeconds, false);
    }

    // "\nended STATUS MICROSECONDS KEEP\n", whole
    private static (int Code, double CpuSeconds, bool Keep)? Told(string status)
    {
        const string key = "\nended ";
        var at = status.IndexOf(key, StringComparison.Ordinal);
        var end = at < 0 ? -1 : status.IndexOf('\n', at + key.Length);
        if (end < 0)
        {
            return null;
        }

        var fields = status[(at + key.Length)..end].Split(' ');
        return (int.Parse(fields[0], CultureInfo.InvariantCulture), long.Parse(fields[1], CultureInfo.InvariantCulture) / 1e6, fields[2] == "1");
    }

    private SandboxOutcome Judge(int code)
    {
        var said = _proof.Text;
        if (code == 0 && _proof.Total <= ProofKeptBytes && said.Contains($"\n{_token}\n", StringComparison.Ordinal))
        {
            return SandboxOutcome.Passed;
        }

        return code == SignalBase + CpuSignal || said.Contains(SandboxHarness.TimedOut, StringComparison.Ordinal) ? SandboxOutcome.TimedOut
            : said.Contains(SandboxHarness.Memory, StringComparison.Ordinal) ? SandboxOutcome.OutOfMemory
            : said.Contains(SandboxHarness.Failed, StringComparison.Ordinal) ? SandboxOutcome.Failed
            : code > SignalBase && code < SignalBase + 65 ? SandboxOutcome.Crashed
            : SandboxOutcome.ExitedEarly;
    }

    // bwrap writes {"child-pid": N} before it lets the child go on; the pidfd is kept only if that process is its child still.
    internal static (int Process, SafeFileHandle? Handle) FindInit(ChildProcess child, string text)
    {
        const string key = "\"child-pid\":";
        var at = text.IndexOf(key, StringComparison.Ordinal);
        if (at < 0)
        {
            return (0, null);
        }

        var digits = text.AsSpan(at + key.Length).TrimStart();
        var end = digits.IndexOfAnyExceptInRange('0', '9');
        if (end <= 0 || !int.TryParse(digits[..end], NumberStyles.None, CultureInfo.InvariantCulture, out var process))
        {
            return (0, null);
        }

        var handle = ChildProcess.Open(process);
        if (handle is not null && ProcessTree.ParentOf(process) != child.Id)
        {
            handle.Dispose();
            handle = null;
        }

        return (process, handle);
    }

    private bool Drain(SafeFileHandle pipe, Kept into)
    {
        // At most a few buffers per turn: an endless writer must not keep the other checks waiting.
        for (var turn = 0; turn < 8; turn++)
        {
            var count = ChildProcess.Read(pipe, _buffer);
            if (count <= 0)
            {
                return count < 0;
            }

            into.Add(_buffer.AsSpan(0, count));
        }

        return true;
    }

    private byte[] Control(SandboxProgram program)
    {
        var (setup, source) = (Encoding.UTF8.GetBytes(program.Setup), Encoding.UTF8.GetBytes(program.Source));
        var mode = !program.AsScript ? "module" : program.AnyExitStatus ? "any" : "script";
        return [.. Encoding.UTF8.GetBytes($"{_token}\n{mode}\n{setup.Length}\n{source.Length}\n"), .. setup, .. source, .. Encoding.UTF8.GetBytes(program.Tests)];
    }

    /// <summary>The first bytes of a stream and how many there were.</summary>
    internal sealed class Kept(int limit)
    {
        private byte[] _bytes = new byte[Math.Min(limit, 1024)];
        private int _count;

        internal long Total { get; private set; }

        internal string Text => Encoding.UTF8.GetString(_bytes, 0, _count);

        internal void Add(ReadOnlySpan<byte> part)
        {
            Total += part.Length;
            part = part[..Math.Min(part.Length, limit - _count)];
            if (_count + part.Length > _bytes.Length)
            {
                Array.Resize(ref _bytes, Math.Min(limit, Math.Max(2 * _bytes.Length, _count + part.Length)));
            }

            part.CopyTo(_bytes.AsSpan(_count));
            _count += part.Length;
        }
    }
}
