using System.Globalization;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>Looks at the NVIDIA libraries and devices without fixing the driver of this process. For `z1 doctor`.</summary>
internal static unsafe class CudaProbe
{
    /// <summary>1000 · major + 10 · minor of the NVIDIA driver; 0 without one.</summary>
    public static int DriverVersion()
    {
        var library = NativeLibraries.OpenDriver(CudaDriver.Nvidia);
        int version;
        return library.Handle != 0 && Find(library.Handle, "cuDriverGetVersion") is var get && get != 0
            && ((delegate* unmanaged<int*, int>)get)(&version) == Cuda.Success ? version : 0;
    }

    /// <summary>One sentence per NVIDIA GPU; none without a driver.</summary>
    public static IReadOnlyList<string> DescribeDevices() =>
        NativeLibraries.OpenDriver(CudaDriver.Nvidia) is { Handle: not 0 } driver ? Devices(driver.Handle) : [];

    /// <summary>One sentence per library.</summary>
    public static IEnumerable<string> Describe()
    {
        var lines = new List<string>();
        var driver = NativeLibraries.OpenDriver(CudaDriver.Nvidia);
        if (driver.Handle == 0)
        {
            lines.Add($"{driver.NameOrReason}.");
        }
        else
        {
            var version = DriverVersion();
            var old = version < CudaDevice.OldestDriver ? "; 12.0 or later is needed (driver 525)" : "";
            lines.Add($"CUDA driver: CUDA {Text(version)} at {PathOf(driver, "cuInit")}{old}.");
        }

        lines.Add(Nvrtc.Describe());
        lines.Add(Library("cuBLASLt", NativeLibraries.OpenCublasLt(), "cublasLtGetVersion", CublasLtVersion,
            "matrix products need it on a GPU (install nvidia-cublas of pip, or set Z1_CUBLASLT to the path of libcublasLt.so.12)"));
        lines.Add(Library("NCCL", NativeLibraries.InToolkits("Z1_NCCL", "libnccl.so.2"), "ncclGetVersion", NcclVersion,
            NcclCommunicator.Advice));
        lines.Add(Library("NVTX", NativeLibraries.InToolkits("Z1_NVTX", "libnvToolsExt.so.1"), "nvtxRangePushA", _ => "present",
            "profilers see kernels without ranges"));
        var host = NativeLibraries.OpenDriver(CudaDriver.HostCuda);
        lines.Add(host.Handle != 0 ? $"hostcuda: at {host.NameOrReason}, {HostCompiler.Describe()}." : $"{host.NameOrReason}.");
        return lines;
    }

    private static string Library(string title, OpenedLibrary library, string symbol, Func<nint, string> version, string otherwise) =>
        library.Handle == 0
            ? $"{title}: {library.NameOrReason}; {otherwise}."
            : $"{title}: {version(Find(library.Handle, symbol))} at {PathOf(library, symbol)}.";

    private static List<string> Devices(nint driver)
    {
        var lines = new List<string>();
        int count;
        var result = Find(driver, "cuInit") is var init && init != 0 ? ((delegate* unmanaged<uint, int>)init)(0) : -1;
        if (result != Cuda.Success || ((delegate* unmanaged<int*, int>)Find(driver, "cuDeviceGetCount"))(&count) != Cuda.Success)
        {
            lines.Add(result == Cuda.NoDevice
                ? "CUDA devices: the driver shows none."
                : string.Create(CultureInfo.InvariantCulture, $"CUDA devices: cuInit fails with error {result}."));
            return lines;
        }

        var name = stackalloc byte[256];
        for (var ordinal = 0; ordinal < count; ordinal++)
        {
            int device, major, minor, processors;
            nuint total;
            var attribute = (delegate* unmanaged<int*, int, int, int>)Find(driver, "cuDeviceGetAttribute");
            if (((delegate* unmanaged<int*, int, int>)Find(driver, "cuDeviceGet"))(&device, ordinal) != Cuda.Success
                || ((delegate* unmanaged<byte*, int, int, int>)Find(driver, "cuDeviceGetName"))(name, 255, device) != Cuda.Success
                || ((delegate* unmanaged<nuint*, int, int>)Find(driver, "cuDeviceTotalMem_v2"))(&total, device) != Cuda.Success
                || attribute(&major, Cuda.CapabilityMajor, device) != Cuda.Success
                || attribute(&minor, Cuda.CapabilityMinor, device) != Cuda.Success
                || attribute(&processors, Cuda.MultiprocessorCount, device) != Cuda.Success)
            {
                lines.Add(string.Create(CultureInfo.InvariantCulture, $"CUDA device {ordinal}: the driver does not answer."));
                continue;
            }

            var old = (major * 10) + minor < CudaDevice.OldestCapability ? "; 8.0 or later is needed" : "";
            lines.Add(string.Create(
                CultureInfo.InvariantCulture,
                $"CUDA device {ordinal}: {Marshal.PtrToStringUTF8((nint)name)}, compute capability {major}.{minor}, {processors} multiprocessors, {total / (double)(1 << 30):F1} GiB{old}."));
        }

        return lines;
    }

    private static string CublasLtVersion(nint function)
    {
        if (function == 0)
        {
            return "a version that does not say its number";
        }

        var version = (long)((delegate* unmanaged<nuint>)function)();
        var (major, minor) = version >= 100000 ? (version / 10000, version / 100 % 100) : (version / 1000, version / 100 % 10);
        return string.Create(CultureInfo.InvariantCulture, $"{major}.{minor}.{version % 100}");
    }

    private static string NcclVersion(nint function)
    {
        int version;
        return function != 0 && ((delegate* unmanaged<int*, int>)function)(&version) == 0
            ? NcclCommunicator.TextOf(version)
            : "a version that does not say its number";
    }

    private static string Text(int version) => string.Create(CultureInfo.InvariantCulture, $"{version / 1000}.{version % 1000 / 10}");

    private static string PathOf(OpenedLibrary library, string symbol) =>
        (Find(library.Handle, symbol) is var address && address != 0 ? NativeLibraries.FileOf(address) : null) ?? library.NameOrReason;

    private static nint Find(nint library, string symbol) => NativeLibrary.TryGetExport(library, symbol, out var address) ? address : 0;

}
