using System.ComponentModel;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Z1Coder.Runtime;

/// <summary>
/// A child process that gets exactly the descriptors and the environment it is given. Unlike System.Diagnostics.Process it passes more than
/// three descriptors, reports the CPU time of the whole tree, and is watched and killed through a pidfd, so a reused process id is never hit.
/// Start it from a thread that outlives it: a child that asked for a parent-death signal gets it when the *thread* that started it ends.
/// </summary>
public sealed unsafe class ChildProcess : IDisposable
{
    private const int FirstFreeDescriptor = 64;         // sources are lifted above every target, so no dup2 overwrites a later source
    private const int OpaqueStructBytes = 1024;         // posix_spawn's structs take 80 and 336 bytes on glibc, less on musl
    private readonly SafeFileHandle _handle;
    private ChildExit? _exit;

    private ChildProcess(int id, SafeFileHandle handle)
    {
        Id = id;
        _handle = handle;
    }

    /// <summary>Process id; belongs to this child until <see cref="Wait"/> has returned.</summary>
    public int Id { get; }

    /// <summary>Becomes readable in poll when the child has ended.</summary>
    public SafeFileHandle Handle => _handle;

    /// <summary>True when this process runs with user id 0.</summary>
    public static bool IsRoot => Posix.geteuid() == 0;

    /// <summary>Starts <paramref name="path"/>; descriptor i of the child is <paramref name="descriptors"/>[i], and it has no others.</summary>
    /// <param name="path">Absolute path of the program.</param>
    /// <param name="arguments">All arguments, the program's own name first.</param>
    /// <param name="environment">"NAME=value" each; nothing is inherited.</param>
    /// <param name="descriptors">0 standard input, 1 output, 2 error, and so on. The same handle may stand twice.</param>
    /// <param name="ownGroup">in a process group of its own: a terminal's Ctrl-C then reaches the parent alone</param>
    public static ChildProcess Start(
        string path, IReadOnlyList<string> arguments, IReadOnlyList<string> environment, IReadOnlyList<SafeFileHandle> descriptors, bool ownGroup = false)
    {
        var actions = NativeMemory.AllocZeroed(OpaqueStructBytes);
        var attributes = NativeMemory.AllocZeroed(OpaqueStructBytes);
        var signals = NativeMemory.AllocZeroed(OpaqueStructBytes);
        var argv = Strings(arguments);
        var envp = Strings(environment);
        var lifted = new List<int>(descriptors.Count);
        Expect(Posix.posix_spawn_file_actions_init(actions), "posix_spawn_file_actions_init");
        Expect(Posix.posix_spawnattr_init(attributes), "posix_spawnattr_init");
        try
        {
            for (var i = 0; i < descriptors.Count; i++)
            {
                var source = Posix.fcntl(Raw(descriptors[i]), Posix.FcntlDuplicateCloseOnExec, FirstFreeDescriptor);
                Expect(source < 0 ? Marshal.GetLastPInvokeError() : 0, "fcntl(F_DUPFD_CLOEXEC)");
                lifted.Add(source);
                Expect(Posix.posix_spawn_file_actions_adddup2(actions, source, i), "posix_spawn_file_actions_adddup2");
            }

            // Descriptors that this process inherited are not close-on-exec: without this they would reach the child (glibc 2.34 or newer).
            Expect(Posix.posix_spawn_file_actions_addclosefrom_np(actions, descriptors.Count), "posix_spawn_file_actions_addclosefrom_np");

            // .NET ignores SIGPIPE, and what is ignored stays ignored over exec: the child starts with every signal at its default.
            _ = Posix.sigfillset(signals);
            Expect(Posix.posix_spawnattr_setsigdefault(attributes, signals), "posix_spawnattr_setsigdefault");
            _ = Posix.sigemptyset(signals);
            Expect(Posix.posix_spawnattr_setsigmask(attributes, signals), "posix_spawnattr_setsigmask");
            var flags = Posix.SpawnSetSignalDefault | Posix.SpawnSetSignalMask | (ownGroup ? Posix.SpawnSetProcessGroup : 0);
            Expect(Posix.posix_spawnattr_setflags(attributes, (short)flags), "posix_spawnattr_setflags");
            int id;
            fixed (byte* program = Encoding.UTF8.GetBytes(path + "\0"))
            {
                Expect(Posix.posix_spawn(&id, program, actions, attributes, argv, envp), $"posix_spawn({path})");
            }

            var handle = Posix.syscall(Posix.PidfdOpen, id, 0, 0, 0);
            if (handle < 0)
            {
                var error = Marshal.GetLastPInvokeError();
                _ = Posix.kill(id, Posix.SignalKill);
                _ = Posix.wait4(id, null, 0, null);
                Expect(error, "pidfd_open (Linux 5.3 or newer)");
            }

            return new ChildProcess(id, new SafeFileHandle(handle, ownsHandle: true));
        }
        finally
        {
            lifted.ForEach(d => _ = Posix.close(d));
            _ = Posix.posix_spawn_file_actions_destroy(actions);
            _ = Posix.posix_spawnattr_destroy(attributes);
            NativeMemory.Free(actions);
            NativeMemory.Free(attributes);
            NativeMemory.Free(signals);
            Free(argv);
            Free(envp);
            GC.KeepAlive(descriptors);
        }
    }

    /// <summary>A pipe; neither end is inherited unless it is passed to <see cref="Start"/>, and the reading end never blocks.</summary>
    public static (SafeFileHandle Read, SafeFileHandle Write) Pipe()
    {
        var ends = stackalloc int[2];
        Expect(Posix.pipe2(ends, Posix.CloseOnExec) < 0 ? Marshal.GetLastPInvokeError() : 0, "pipe2");
        return Ends(ends);
    }

    /// <summary>As <see cref="Pipe"/>, of two sockets: who has the end that writes reads nothing of what was written, whatever it opens.</summary>
    public static (SafeFileHandle Read, SafeFileHandle Write) SocketPair()
    {
        const int unix = 1, stream = 1, writing = 1;
        var ends = stackalloc int[2];
        Expect(Posix.socketpair(unix, stream | Posix.CloseOnExec, 0, ends) < 0 ? Marshal.GetLastPInvokeError() : 0, "socketpair");
        _ = Posix.shutdown(ends[0], writing);
        return Ends(ends);
    }

    private static (SafeFileHandle Read, SafeFileHandle Write) Ends(int* ends)
    {
        const int setFlags = 4;                         // F_SETFL
        _ = Posix.fcntl(ends[0], setFlags, Posix.NonBlocking);
        return (new SafeFileHandle(ends[0], ownsHandle: true), new SafeFileHandle(ends[1], ownsHandle: true));
    }

    /// <summary>A file in memory with this content, positioned at its start and sealed: who gets it can read it and change nothing.</summary>
    public static SafeFileHandle SealedFile(ReadOnlySpan<byte> content)
    {
        int descriptor;
        fixed (byte* name = "z1"u8)
        {
            descriptor = Posix.memfd_create(name, Posix.MemfdCloseOnExec | Posix.MemfdAllowSealing);
        }

        Expect(descriptor < 0 ? Marshal.GetLastPInvokeError() : 0, "memfd_create");
        var handle = new SafeFileHandle(descriptor, ownsHandle: true);
        Expect(WriteAll(descriptor, content), "write to a memory file");
        _ = Posix.lseek(descriptor, 0, 0);
        Expect(Posix.fcntl(descriptor, Posix.FcntlAddSeals, Posix.AllSeals) < 0 ? Marshal.GetLastPInvokeError() : 0, "fcntl(F_ADD_SEALS)");
        return handle;
    }

    /// <summary>Reads what is there: bytes read, 0 at the end, -1 when nothing is there yet.</summary>
    public static int Read(SafeFileHandle from, Span<byte> into)
    {
        fixed (byte* buffer = into)
        {
            while (true)
            {
                var count = Posix.read(Raw(from), buffer, (nuint)into.Length);
                if (count >= 0)
                {
                    return (int)count;
                }

                var error = Marshal.GetLastPInvokeError();
                if (error == Posix.WouldBlock)
                {
                    return -1;
                }

                if (error != Posix.Interrupted)
                {
                    Expect(error, "read from a pipe");
                }
            }
        }
    }

    /// <summary>Writes all, waiting for the reader. Not as <see cref="Console"/> does it, whose streams wait for one another.</summary>
    /// <exception cref="IOException">the reader has gone, or the disk is full</exception>
    public static void Write(int descriptor, ReadOnlySpan<byte> content)
    {
        if (WriteAll(descriptor, content) is not 0 and var error)
        {
            throw new IOException($"write failed: {Marshal.GetPInvokeErrorMessage(error)} ({error})");
        }
    }

    // 0, or the error after which the rest was given up.
    private static int WriteAll(int descriptor, ReadOnlySpan<byte> content)
    {
        fixed (byte* bytes = content)
        {
            for (var done = 0; done < content.Length;)
            {
                var count = Posix.write(descriptor, bytes + done, (nuint)(content.Length - done));
                if (count >= 0)
                {
                    done += (int)count;
                    continue;
                }

                var error = Marshal.GetLastPInvokeError();
                if (error == Posix.WouldBlock)
                {
                    var item = new Posix.PollDescriptor { Descriptor = descriptor, Events = Posix.PollOut };
                    _ = Posix.poll(&item, 1, -1);
                }
                else if (error != Posix.Interrupted)
                {
                    return error;
                }
            }
        }

        return 0;
    }

    /// <summary>Waits until one of <paramref name="handles"/> can be read or has ended; null entries are skipped. False after the time given.</summary>
    public static bool Poll(ReadOnlySpan<SafeFileHandle?> handles, int milliseconds)
    {
        var items = stackalloc Posix.PollDescriptor[handles.Length];
        for (var i = 0; i < handles.Length; i++)
        {
            items[i] = new Posix.PollDescriptor { Descriptor = handles[i] is { } handle ? Raw(handle) : -1, Events = 1 };
        }

        var ready = Posix.poll(items, (nuint)handles.Length, milliseconds);
        var error = ready < 0 ? Marshal.GetLastPInvokeError() : 0;
        Expect(error == Posix.Interrupted ? 0 : error, "poll");
        return ready > 0;
    }

    /// <summary>A handle on a process that is not ours to wait for; null when it is gone. Check what it is before using <see cref="Kill(SafeFileHandle)"/>.</summary>
    public static SafeFileHandle? Open(int process)
    {
        var handle = Posix.syscall(Posix.PidfdOpen, process, 0, 0, 0);
        return handle < 0 ? null : new SafeFileHandle(handle, ownsHandle: true);
    }

    /// <summary>Sends SIGKILL to the process behind a pidfd; one that has ended is left alone.</summary>
    public static void Kill(SafeFileHandle process) => _ = Posix.syscall(Posix.PidfdSendSignal, Raw(process), Posix.SignalKill, 0, 0);

    /// <summary>Sends SIGKILL to this child.</summary>
    public void Kill() => Kill(_handle);

    /// <summary>Sends a signal, by its number, to this child; one that has ended is left alone.</summary>
    public void Signal(int signal) => _ = Posix.syscall(Posix.PidfdSendSignal, Raw(_handle), signal, 0, 0);

    /// <summary>From here on this process gets SIGKILL when the thread of <paramref name="parent"/> that started it ends.</summary>
    /// <returns>false when it has ended already</returns>
    public static bool EndWith(int parent)
    {
        _ = Posix.prctl(Posix.SetParentDeathSignal, Posix.SignalKill, 0, 0, 0);
        return Posix.getppid() == parent;
    }

    /// <summary>Waits for the end and collects the child; later calls return the same.</summary>
    public ChildExit Wait()
    {
        if (_exit is { } known)
        {
            return known;
        }

        int status;
        Posix.ResourceUsage usage;
        while (Posix.wait4(Id, &status, 0, &usage) < 0)
        {
            var error = Marshal.GetLastPInvokeError();
            Expect(error == Posix.Interrupted ? 0 : error, "wait4");
        }

        var signal = status & 0x7F;
        var exit = new ChildExit(
            signal == 0 ? (status >> 8) & 0xFF : 128 + signal,
            usage.UserSeconds + usage.SystemSeconds + (usage.UserMicroseconds + usage.SystemMicroseconds) / 1e6,
            usage.PeakKibibytes * 1024);
        _exit = exit;
        return exit;
    }

    /// <summary>Kills and collects the child if that has not happened.</summary>
    public void Dispose()
    {
        if (_exit is null)
        {
            Kill();
            Wait();
        }

        _handle.Dispose();
    }

    private static int Raw(SafeFileHandle handle)
    {
        ObjectDisposedException.ThrowIf(handle.IsClosed, handle);
        return (int)handle.DangerousGetHandle();
    }

    private static byte** Strings(IReadOnlyList<string> items)
    {
        var list = (byte**)NativeMemory.AllocZeroed((nuint)(items.Count + 1), (nuint)sizeof(byte*));
        for (var i = 0; i < items.Count; i++)
        {
            if (items[i].Contains('\0', StringComparison.Ordinal))
            {
                throw new ArgumentException($"argument {i} of a child process contains a zero character");
            }

            list[i] = (byte*)Marshal.StringToCoTaskMemUTF8(items[i]);
        }

        return list;
    }

    private static void Free(byte** items)
    {
        for (var item = items; *item != null; item++)
        {
            Marshal.FreeCoTaskMem((nint)(*item));
        }

        NativeMemory.Free(items);
    }

    private static void Expect(int error, string call)
    {
        if (error != 0)
        {
            throw new Win32Exception(error, string.Create(CultureInfo.InvariantCulture, $"{call} failed: {Marshal.GetPInvokeErrorMessage(error)} ({error})"));
        }
    }
}
