using System.Runtime.InteropServices;
using System.Text;

namespace Z1Coder.Runtime;

public static unsafe partial class Posix
{
    private const int ReadOnlyDirectory = 0x10000 | 0x80000; // O_RDONLY | O_DIRECTORY | O_CLOEXEC on Linux x64
    private const int Invalid = 22; // EINVAL: this file system cannot sync directories

    /// <summary>Forces the entries of a directory (creations, renames, removals) onto the medium; does nothing where directories cannot be synced.</summary>
    /// <exception cref="IOException">the system refuses; the message names the directory</exception>
    public static void FlushDirectory(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        var name = Encoding.UTF8.GetBytes(path + '\0');
        int descriptor;
        fixed (byte* start = name)
        {
            do
            {
                descriptor = open(start, ReadOnlyDirectory);
            }
            while (descriptor < 0 && Marshal.GetLastPInvokeError() == Interrupted);
        }

        if (descriptor < 0)
        {
            throw Failure(path, Marshal.GetLastPInvokeError());
        }

        int result, error;
        do
        {
            result = fsync(descriptor);
            error = result < 0 ? Marshal.GetLastPInvokeError() : 0;
        }
        while (error == Interrupted);

        _ = close(descriptor);
        if (result < 0 && error != Invalid)
        {
            throw Failure(path, error);
        }
    }

    private static IOException Failure(string path, int error) =>
        new($"cannot sync the directory {path}: {Marshal.GetPInvokeErrorMessage(error)}");

    // open(2) is variadic; without O_CREAT no third argument is read, and the fixed ones travel as in any call on x64 and arm64 Linux.
    [LibraryImport("libc", SetLastError = true)]
    private static partial int open(byte* path, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fsync(int descriptor);
}
