using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// A confinement that is kept for many programs, one after the other (<see cref="SandboxHarness.Server"/>). It lives on a thread of its own, because bwrap dies with
/// the thread that started it. It is killed, not reused, when a program passed a limit.
/// </summary>
internal sealed class SandboxWorker : IDisposable
{
    private const int ReadySeconds = 60;
    private const int StatusKeptBytes = 4096;
    private const int GoneMilliseconds = 10_000;

    private readonly SandboxHost _host;
    private readonly int _slot;
    private readonly BlockingCollection<Action> _work = [];
    private readonly List<SafeFileHandle> _pipes = [];
    private readonly Thread _thread;
    private FileStream? _requests;
    private SafeFileHandle? _init;
    private ChildProcess? _child;

    internal SandboxWorker(SandboxHost host)
    {
        (_host, _slot) = (host, SandboxHost.TakeSlot());
        _thread = new Thread(() =>
        {
            foreach (var work in _work.GetConsumingEnumerable())
            {
                work();
            }
        })
        {
            IsBackground = true,
            Name = "z1 sandbox worker",
        };
        _thread.Start();
        try
        {
            OnThread(Start);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    internal bool Alive { get; private set; }

    internal ChildProcess Child => _child!;

    /// <summary>The server's process id as this process sees it.</summary>
    internal int Process { get; private set; }

    internal SafeFileHandle Out => _pipes[0];

    internal SafeFileHandle Error => _pipes[1];

    internal SafeFileHandle Status => _pipes[2];

    internal SafeFileHandle Proof => _pipes[3];

    /// <summary>Runs one program on the calling thread; null when the server was gone.</summary>
    internal SandboxResult? Run(SandboxProgram program, SandboxLimits limits, CancellationToken cancellation)
    {
        try
        {
            var result = SandboxRun.Run(this, program, limits, cancellation);
            Alive &= result is not null;
            return result;
        }
        catch (IOException)
        {
            Alive = false;                              // the request found no reader
            return null;
        }
        catch
        {
            Alive = false;
            throw;
        }
    }

    internal void Send(SandboxLimits limits, byte[] stdin, byte[] control)
    {
        var user = _host.Mode == SandboxHost.Caller.Root ? SandboxHost.UserOf(_slot) : 0;
        var head = string.Create(
            CultureInfo.InvariantCulture, $"{user} {limits.FileBytes} {stdin.Length} {control.Length} {string.Join(' ', _host.LimitsOf(limits))}\n");
        _requests!.Write([.. Encoding.ASCII.GetBytes(head), .. stdin, .. control]);
        _requests.Flush();
    }

    /// <summary>It serves no further program.</summary>
    internal void Retire() => Alive = false;

    /// <summary>Ends the confinement and everything in it.</summary>
    internal void Kill()
    {
        Alive = false;
        if (_init is not null)
        {
            ChildProcess.Kill(_init);
        }
        else
        {
            _child?.Kill();
        }
    }

    public void Dispose()
    {
        Kill();
        if (_init is not null)
        {
            ChildProcess.Poll([_init], GoneMilliseconds);   // bwrap may be gone before the namespace is
        }

        if (_thread.IsAlive)
        {
            _work.Add(() => _child?.Dispose());
            _work.CompleteAdding();
            _thread.Join();
        }

        _requests?.Dispose();
        _init?.Dispose();
        _pipes.ForEach(p => p.Dispose());
        _work.Dispose();
        SandboxHost.GiveBack(_slot);
    }

    private void OnThread(Action work)
    {
        var done = new TaskCompletionSource();
        _work.Add(() =>
        {
            try
            {
                work();
                done.SetResult();
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
        });
        done.Task.GetAwaiter().GetResult();
    }

    private void Start()
    {
        var (path, arguments) = _host.ServerCommand(_slot, infoDescriptor: 5);
        var (requestRead, requestWrite) = ChildProcess.Pipe();
        var (outRead, outWrite) = ChildProcess.Pipe();
        var (errorRead, errorWrite) = ChildProcess.Pipe();
        var (statusRead, statusWrite) = ChildProcess.Pipe();
        var (proofRead, proofWrite) = ChildProcess.Pipe();
        _pipes.AddRange([outRead, errorRead, statusRead, proofRead]);
        _requests = new FileStream(requestWrite, FileAccess.Write, bufferSize: 0);
        using var filter = ChildProcess.SealedFile(SyscallFilter.Build());
        using var hosts = ChildProcess.SealedFile(SandboxHost.Hosts);
        using var sources = ChildProcess.SealedFile(SandboxHost.NameSources);
        using (requestRead)
        using (outWrite)
        using (errorWrite)
        using (statusWrite)
        using (proofWrite)
        {
            _child = ChildProcess.Start(
                path, arguments, SandboxHost.Environment, [requestRead, outWrite, errorWrite, statusWrite, proofWrite, statusWrite, filter, hosts, sources]);
        }

        var (status, error) = (new SandboxRun.Kept(StatusKeptBytes), new SandboxRun.Kept(StatusKeptBytes));
        var buffer = new byte[StatusKeptBytes];
        var clock = System.Diagnostics.Stopwatch.StartNew();
        while (!status.Text.Contains("\nready\n", StringComparison.Ordinal))
        {
            var open = ChildProcess.Poll([statusRead, _child.Handle], 100);
            var count = ChildProcess.Read(statusRead, buffer);
            status.Add(buffer.AsSpan(0, Math.Max(0, count)));
            if (_init is null)
            {
                (Process, _init) = SandboxRun.FindInit(_child, status.Text);
            }

            if (open && count == 0 || clock.Elapsed.TotalSeconds > ReadySeconds)
            {
                for (int read; (read = ChildProcess.Read(errorRead, buffer)) > 0;)
                {
                    error.Add(buffer.AsSpan(0, read));
                }

                throw new SandboxException($"The confined server did not start: {error.Text.Trim().ReplaceLineEndings(" ")}");
            }
        }

        if (_init is null)
        {
            throw new SandboxException("The confined server did not say which process it is.");
        }

        Alive = true;
    }
}
