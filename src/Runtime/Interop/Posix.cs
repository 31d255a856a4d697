using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>The few calls of libc that .NET does not offer: confined child processes, syncing directories. Linux only.</summary>
public static unsafe partial class Posix
{
    internal const int CloseOnExec = 0x80000;           // O_CLOEXEC
    internal const int NonBlocking = 0x800;             // O_NONBLOCK
    internal const int MemfdCloseOnExec = 1;
    internal const int MemfdAllowSealing = 2;
    internal const int FcntlDuplicateCloseOnExec = 1030; // F_DUPFD_CLOEXEC
    internal const int FcntlAddSeals = 1033;            // F_ADD_SEALS
    internal const int AllSeals = 0xF;                  // seal, shrink, grow, write
    internal const short SpawnSetProcessGroup = 2;      // POSIX_SPAWN_SETPGROUP
    internal const short SpawnSetSignalMask = 8;        // POSIX_SPAWN_SETSIGMASK
    internal const short SpawnSetSignalDefault = 4;     // POSIX_SPAWN_SETSIGDEF
    internal const int Interrupted = 4;                 // EINTR
    internal const int WouldBlock = 11;                 // EAGAIN
    internal const int NoHang = 1;                      // WNOHANG
    internal const int SignalKill = 9;
    internal const int SetParentDeathSignal = 1;        // PR_SET_PDEATHSIG
    internal const nint PidfdSendSignal = 424;          // the same number on every architecture
    internal const nint PidfdOpen = 434;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int pipe2(int* descriptors, int flags);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial nint getenv(string name);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int setenv(string name, string value, int overwrite);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int socketpair(int domain, int type, int protocol, int* descriptors);

    [LibraryImport("libc")]
    internal static partial int shutdown(int descriptor, int how);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int memfd_create(byte* name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int fcntl(int descriptor, int command, nint argument);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint read(int descriptor, byte* buffer, nuint count);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint write(int descriptor, byte* buffer, nuint count);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial long lseek(int descriptor, long offset, int origin);

    [LibraryImport("libc")]
    internal static partial int close(int descriptor);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int poll(PollDescriptor* descriptors, nuint count, int milliseconds);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int wait4(int process, int* status, int options, ResourceUsage* usage);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int kill(int process, int signal);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint syscall(nint number, nint a, nint b, nint c, nint d);

    [LibraryImport("libc")]
    internal static partial uint geteuid();

    [LibraryImport("libc")]
    internal static partial int getppid();

    [LibraryImport("libc")]
    internal static partial int prctl(int option, nuint a, nuint b, nuint c, nuint d);

    [LibraryImport("libc")]
    internal static partial int posix_spawn(int* process, byte* path, void* actions, void* attributes, byte** arguments, byte** environment);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_init(void* actions);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_adddup2(void* actions, int from, int to);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_addclosefrom_np(void* actions, int first);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_destroy(void* actions);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_init(void* attributes);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setflags(void* attributes, short flags);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setsigmask(void* attributes, void* signals);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setsigdefault(void* attributes, void* signals);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_destroy(void* attributes);

    [LibraryImport("libc")]
    internal static partial int sigfillset(void* signals);

    [LibraryImport("libc")]
    internal static partial int sigemptyset(void* signals);

    /// <summary>struct pollfd</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct PollDescriptor
    {
        internal int Descriptor;
        internal short Events;
        internal short Returned;
    }

    /// <summary>struct rusage of 64-bit Linux: two timevals, then fourteen longs of which the first is the peak resident KiB.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct ResourceUsage
    {
        internal long UserSeconds;
        internal long UserMicroseconds;
        internal long SystemSeconds;
        internal long SystemMicroseconds;
        internal long PeakKibibytes;
        internal fixed long Rest[13];
    }
}
