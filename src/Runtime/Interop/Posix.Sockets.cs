using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

// Sends and receives that never wait and never raise a signal: .NET's own calls do not tell how much of a span a full buffer took. And an end of
// the process that waits for nothing.
public static unsafe partial class Posix
{
    internal const int DoNotWait = 0x40;                // MSG_DONTWAIT
    internal const int NoSignal = 0x4000;               // MSG_NOSIGNAL
    internal const short PollIn = 1, PollOut = 4;       // POLLIN, POLLOUT

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint send(int descriptor, byte* buffer, nuint count, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint recv(int descriptor, byte* buffer, nuint count, int flags);

    /// <summary>Without the runtime's shutdown, which may wait for what hangs.</summary>
    internal static void EndProcess(int code)
    {
        if (OperatingSystem.IsLinux())
        {
            _exit(code);
        }

        Environment.Exit(code);
    }

    [LibraryImport("libc")]
    private static partial void _exit(int code);
}
