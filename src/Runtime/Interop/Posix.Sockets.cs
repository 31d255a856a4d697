using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

// Sends and receives that never wait and never raise a signal: .NET's own calls do not tell how much of a span a full buffer took.
public static unsafe partial class Posix
{
    internal const int DoNotWait = 0x40;                // MSG_DONTWAIT
    internal const int NoSignal = 0x4000;               // MSG_NOSIGNAL
    internal const short PollIn = 1, PollOut = 4;       // POLLIN, POLLOUT

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint send(int descriptor, byte* buffer, nuint count, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint recv(int descriptor, byte* buffer, nuint count, int flags);
}
