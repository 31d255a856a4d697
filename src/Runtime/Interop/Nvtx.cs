using System.Runtime.InteropServices;
using System.Text;

namespace Z1Coder.Runtime;

/// <summary>Named ranges for NVIDIA's profilers, where libnvToolsExt.so.1 is present; otherwise nothing happens.</summary>
internal static unsafe partial class Nvtx
{
    private const string Library = "nvToolsExt";
    private const int MostBytes = 128;

    private static readonly Lazy<bool> s_present = new(() => NativeLibraries.OpenNamed(Library).Handle != 0);

    public static bool IsPresent => s_present.Value;

    public static void Push(string name)
    {
        if (!IsPresent)
        {
            return;
        }

        var bytes = stackalloc byte[MostBytes];
        Encoding.UTF8.GetEncoder().Convert(name, new Span<byte>(bytes, MostBytes - 1), flush: true, out _, out var used, out _);
        bytes[used] = 0;
        _ = nvtxRangePushA(bytes);
    }

    public static void Pop()
    {
        if (IsPresent)
        {
            _ = nvtxRangePop();
        }
    }

    [LibraryImport(Library)]
    private static partial int nvtxRangePushA(byte* message);

    [LibraryImport(Library)]
    private static partial int nvtxRangePop();
}
