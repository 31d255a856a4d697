using System.Runtime.InteropServices;
using System.Text;

namespace Z1Coder.Runtime;

/// <summary>What libhostcuda.so offers beyond the driver API: the last fault in words, injected errors, counts. Usable once a
/// <see cref="CudaDevice"/> of <see cref="CudaDriver.HostCuda"/> is open.</summary>
public static unsafe partial class HostCuda
{
    private const string Library = "cuda";

    /// <summary>Whether this process opened hostcuda.</summary>
    public static bool IsOpen => NativeLibraries.OpenedDriver == CudaDriver.HostCuda;

    /// <summary>What the last failed kernel did, in one sentence: kernel, block, thread, fault; "" when none failed.</summary>
    public static string LastFault => Marshal.PtrToStringUTF8(hostcuda_last_fault()) ?? "";

    /// <summary>Streams, events, graphs, allocations, pinned buffers, modules and contexts that exist.</summary>
    public static int LiveHandles => hostcuda_live_handles();

    /// <summary>What was launched, copied and allocated since the process began.</summary>
    public static HostCudaCounters Counters
    {
        get
        {
            var values = stackalloc long[10];
            hostcuda_counters(values, 10);
            return new(values[0], values[1], values[2], values[3], values[4], values[5], values[6], values[7], values[8], values[9]);
        }
    }

    /// <summary>The call of a driver function after <paramref name="afterCalls"/> further ones returns <paramref name="error"/>; 0 takes it back.</summary>
    internal static void Inject(string function, int afterCalls, int error)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(function + '\0'))
        {
            hostcuda_inject(name, afterCalls, error);
        }
    }

    /// <summary>Sets "driver_version", "compute_capability", "devices", "total_bytes" or "nccl_version"; a negative value takes it back.</summary>
    internal static void Pretend(string what, long value)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(what + '\0'))
        {
            hostcuda_pretend(name, value);
        }
    }

    /// <summary>Forgets a sticky error, so that one test process can provoke several.</summary>
    internal static void ResetFault() => hostcuda_reset_fault();

    [LibraryImport(Library)]
    private static partial nint hostcuda_last_fault();

    [LibraryImport(Library)]
    private static partial int hostcuda_live_handles();

    [LibraryImport(Library)]
    private static partial void hostcuda_counters(long* values, int count);

    [LibraryImport(Library)]
    private static partial void hostcuda_inject(byte* function, int afterCalls, int error);

    [LibraryImport(Library)]
    private static partial void hostcuda_pretend(byte* what, long value);

    [LibraryImport(Library)]
    private static partial void hostcuda_reset_fault();
}
