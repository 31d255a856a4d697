using System.Collections.Concurrent;
using System.ComponentModel;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// Runs model-written Python confined from outside by bubblewrap, and refuses to run it any other way.
/// <para>Covered: no network (own network namespace; only AF_UNIX, AF_INET, AF_INET6, AF_NETLINK sockets exist at all); the file system is
/// /usr, the interpreter and five files of /etc, read-only, with a private /tmp and /dev/shm of limited size, so no home, no repository, no
/// /etc/shadow; own process namespace: other processes cannot be seen, signalled or traced, and everything started dies with the program, also
/// what was daemonised; no environment, descriptor or controlling terminal of the caller; no capabilities, no gain of privileges, a seccomp
/// filter (<see cref="SyscallFilter"/>); limits on wall-clock and CPU time, memory (each process by the kernel, all together by sampling every
/// 25 ms), processes, files, output (<see cref="SandboxLimits"/>), none set inside the program. When the caller dies the program dies.</para>
/// <para>With reuse a confinement stays for many programs: a server in it, which itself runs none, forks each (<see cref="SandboxHarness.Server"/>). What a program
/// started is dead and what it wrote is gone before the next; namespaces, user id and the standard library's modules loaded before the fork are
/// shared by the programs of a worker, one after the other. A program that passes a limit, or that leaves something behind, takes its whole
/// confinement with it.</para>
/// <para>The verdict does not trust the exit status: a pass needs a random token of this run, which the harness writes when the tests have ended.</para>
/// <para>Not covered: bugs of the kernel or of bubblewrap; side channels (time, caches, load); CPU time taken from the neighbours; memory of the
/// kernel itself, such as millions of empty files within the time limit; reading what the machine shows to anyone (/proc/cpuinfo, /usr); and
/// cheating inside the interpreter: code written against this very harness can walk its frames to the token, or make values that equal
/// everything. Programs and tests share one interpreter, so nothing can rule that out.</para>
/// </summary>
public sealed class Sandbox : IDisposable
{
    private readonly SandboxHost _host;
    private readonly bool _reuse;
    private readonly ConcurrentBag<SandboxWorker> _idle = [];

    internal Sandbox(SandboxHost host, bool reuse = false) => (_host, _reuse) = (host, reuse);

    /// <summary>The interpreter that programs run in.</summary>
    public string Python => _host.Python;

    /// <summary>Its version.</summary>
    internal string PythonVersion => _host.PythonVersion;

    /// <summary>One sentence about how programs are confined here.</summary>
    public string Description => _host.Mode switch
    {
        SandboxHost.Caller.User => $"Programs run confined by bubblewrap in user namespaces with {_host.Python}.",
        SandboxHost.Caller.Root => $"Programs run confined by bubblewrap under user ids of their own with {_host.Python}.",
        _ => $"Programs run confined by bubblewrap in user namespaces of user ids of their own with {_host.Python}.",
    };

    /// <summary>A sandbox that has been tried: a first program confirmed from inside that every layer is there.</summary>
    /// <param name="sitePackages">Lets programs import installed packages; costs some 10 to 30 ms per start.</param>
    /// <param name="reuse">Keeps confinements for many programs where that works; dispose of the sandbox then.</param>
    /// <exception cref="SandboxException">Programs cannot be confined here; the message says what to install or enable.</exception>
    public static Sandbox Create(bool sitePackages = false, bool reuse = false)
    {
        string? why = null;
        foreach (var host in SandboxHost.Candidates(sitePackages))
        {
            if (Try(host) is not { } problem)
            {
                return new Sandbox(host, reuse && Try(host, reuse) is null);
            }

            why ??= problem;
        }

        throw new SandboxException(Explain(why!));
    }

    /// <summary>Says in one sentence whether programs can be confined here, and if not, what to install or enable.</summary>
    public static SandboxProbe Probe()
    {
        try
        {
            return new SandboxProbe(true, Create().Description);
        }
        catch (SandboxException e)
        {
            return new SandboxProbe(false, e.Message);
        }
    }

    /// <summary>Runs <paramref name="program"/> without tests: it passes when it comes to its end.</summary>
    public Task<SandboxResult> RunAsync(string program, SandboxLimits limits, CancellationToken cancellation = default) =>
        RunAsync(new SandboxProgram(program), limits, cancellation);

    /// <summary>Runs one program; any number may run at once, each on a thread of its own.</summary>
    /// <exception cref="SandboxException">The confinement failed; this says nothing about the program.</exception>
    public Task<SandboxResult> RunAsync(SandboxProgram program, SandboxLimits limits, CancellationToken cancellation = default)
    {
        var done = new TaskCompletionSource<SandboxResult>(TaskCreationOptions.RunContinuationsAsynchronously);

        // bwrap dies with the thread that started it, so that thread is not a pool's: it waits for the end and then ends itself.
        var thread = new Thread(() =>
        {
            var slot = SandboxHost.TakeSlot();
            try
            {
                done.SetResult(Again(program, limits, cancellation) ?? SandboxRun.Run(_host, program, limits, slot, cancellation));
            }
            catch (OperationCanceledException)
            {
                done.SetCanceled(cancellation);
            }
            catch (Win32Exception e)
            {
                done.SetException(new SandboxException("A confined program could not be started: " + e.Message, e));
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
            finally
            {
                SandboxHost.GiveBack(slot);
            }
        })
        {
            IsBackground = true,
            Name = "z1 sandbox",
        };
        thread.Start();
        return done.Task;
    }

    /// <summary>Ends the confinements that are kept.</summary>
    public void Dispose()
    {
        while (_idle.TryTake(out var worker))
        {
            worker.Dispose();
        }
    }

    // Null without reuse, or when the worker itself ended: the program then gets a confinement of its own.
    private SandboxResult? Again(SandboxProgram program, SandboxLimits limits, CancellationToken cancellation)
    {
        if (!_reuse)
        {
            return null;
        }

        var worker = _idle.TryTake(out var idle) ? idle : new SandboxWorker(_host);
        SandboxResult? result = null;
        try
        {
            return result = worker.Run(program, limits, cancellation);
        }
        finally
        {
            if (result is not null && worker.Alive)
            {
                _idle.Add(worker);
            }
            else
            {
                worker.Dispose();
            }
        }
    }

    /// <summary>Null when every layer is there, otherwise what is wrong.</summary>
    internal static string? Try(SandboxHost host, bool reuse = false)
    {
        const int processes = 7;
        var limit = processes + (host.Mode == SandboxHost.Caller.Root ? 0 : 1);
        var program = $"""
            import posix
            status = posix.read(posix.open("/proc/self/status", 0), 65536).decode()
            assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status, "no system call filter"
            assert "CapEff:\t0000000000000000" in status and "CapPrm:\t0000000000000000" in status, "capabilities are left"
            limits = posix.read(posix.open("/proc/self/limits", 0), 65536).decode()
            assert [l.split()[2] for l in limits.split("\n") if l.startswith("Max processes")] == ["{limit}"], "no process limit"
            """;
        try
        {
            using var sandbox = new Sandbox(host, reuse);
            var result = sandbox.RunAsync(program, new SandboxLimits { Processes = processes }).GetAwaiter().GetResult();
            return result.Outcome == SandboxOutcome.Passed ? null : $"the trial program ended with {result.Outcome}: {result.Stderr.Trim()}";
        }
        catch (SandboxException e)
        {
            return e.Message;
        }
    }

    private static string Explain(string why)
    {
        why = why.ReplaceLineEndings(" ");
        var remedy =
            why.Contains("--size", StringComparison.Ordinal) || why.Contains("--as-pid-1", StringComparison.Ordinal)
                ? "install bubblewrap 0.7 or newer"
            : why.Contains("proc", StringComparison.Ordinal) && why.Contains("mount", StringComparison.Ordinal)
                ? "/proc cannot be mounted; in a container, allow it (podman, docker: --security-opt systempaths=unconfined)"
            : "allow user namespaces (sysctl user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1, "
                + "kernel.apparmor_restrict_unprivileged_userns=0; in a container: --security-opt seccomp=unconfined or --cap-add SYS_ADMIN)";
        return $"Programs cannot be confined here, so they are not run: {remedy} [{why}].";
    }
}
