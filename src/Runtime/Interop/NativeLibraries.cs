using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// The one place that opens native libraries. Each is optional and opened at first use: first the path in its environment variable
/// (the word "off" leaves it out), then the loader's own search over the names given, then, for NVIDIA's libraries, the toolkits under
/// /usr/local and the site-packages of the Python on PATH. Nothing here throws when a library is absent.
/// </summary>
public static partial class NativeLibraries
{
    private const int NoDriver = -1;

    private static readonly Lock s_gate = new();
    private static readonly Dictionary<string, OpenedLibrary> s_opened = [];
    private static int s_driver = NoDriver;

    /// <summary>The driver library this process opened, or null.</summary>
    public static CudaDriver? OpenedDriver => Volatile.Read(ref s_driver) is var driver && driver == NoDriver ? null : (CudaDriver)driver;

    /// <summary>One line per optional library for `z1 doctor`: what was found and where, or what to install.</summary>
    public static string Describe() => string.Join('\n', [OneDnn.Description, Mpi.Description, .. CudaProbe.Describe()]);

    /// <summary>What multiplies matrices on the CPU, as far as it decides last bits: oneDNN with version and instruction set, or "managed".</summary>
    public static string CpuProducts => OneDnn.Library is { } library ? $"oneDNN {library.Version} {library.InstructionSet}" : "managed";

    /// <summary>One line per NVIDIA GPU for `z1 doctor`; none without a driver.</summary>
    public static IReadOnlyList<string> DescribeDevices() => CudaProbe.DescribeDevices();

    /// <summary>Opens the first library that answers.</summary>
    /// <param name="variable">environment variable that holds a path, or "off"</param>
    /// <param name="names">sonames in order of preference</param>
    internal static OpenedLibrary Open(string variable, params ReadOnlySpan<string> names) =>
        OpenAs(Environment.GetEnvironmentVariable(variable), variable, names);

    /// <summary>As <see cref="Open"/>, with the variable's value given.</summary>
    internal static OpenedLibrary OpenAs(string? chosen, string variable, params ReadOnlySpan<string> names) =>
        OpenAs(chosen, variable, [], names);

    /// <summary>As <see cref="Open"/>; the variable may also name a directory, and <paramref name="directories"/> are searched last.</summary>
    internal static OpenedLibrary OpenAs(string? chosen, string variable, IEnumerable<string> directories, params ReadOnlySpan<string> names)
    {
        if (string.Equals(chosen, "off", StringComparison.OrdinalIgnoreCase))
        {
            return new(0, $"left out by {variable}=off");
        }

        if (!string.IsNullOrEmpty(chosen))
        {
            if (Directory.Exists(chosen))
            {
                var inside = OpenIn(chosen, names);
                return inside.Handle != 0 ? inside : new(0, $"{variable} names the directory {chosen}, which holds none of {string.Join(", ", names.ToArray())}");
            }

            return TryLoad(chosen, out var named)
                ? new(named, chosen)
                : new(0, $"{variable} names {chosen}, which cannot be loaded");
        }

        foreach (var name in names)
        {
            if (NativeLibrary.TryLoad(name, out var handle))
            {
                return new(handle, name);
            }
        }

        foreach (var directory in directories)
        {
            var found = OpenIn(directory, names);
            if (found.Handle != 0)
            {
                return found;
            }
        }

        return new(0, $"not found as {string.Join(", ", names.ToArray())}");
    }

    /// <summary>Fixes the driver library of this process.</summary>
    /// <exception cref="NotSupportedException">the other one is open, or the library is absent; one sentence</exception>
    internal static void UseDriver(CudaDriver driver)
    {
        lock (s_gate)
        {
            if (s_driver == (int)driver)
            {
                return;
            }

            if (s_driver != NoDriver)
            {
                throw new NotSupportedException(
                    $"this process already uses {(CudaDriver)s_driver} as its CUDA driver; {driver} needs a process of its own");
            }

            var library = OpenDriver(driver);
            if (library.Handle == 0)
            {
                throw new NotSupportedException(library.NameOrReason);
            }

            s_opened["cuda"] = library;
            s_driver = (int)driver;
        }
    }

    /// <summary>Opens the library of a driver without fixing it; a failure is one sentence.</summary>
    internal static OpenedLibrary OpenDriver(CudaDriver driver)
    {
        var library = driver == CudaDriver.Nvidia
            ? Open("Z1_CUDA", "libcuda.so.1")
            : OpenAs(Environment.GetEnvironmentVariable("Z1_HOSTCUDA"), "Z1_HOSTCUDA", LibraryFolders.HostCuda(), "libhostcuda.so");
        return library.Handle != 0 ? library
            : driver == CudaDriver.Nvidia
                ? new(0, $"CUDA driver: {library.NameOrReason}; install the NVIDIA driver, or run on the CPU")
                : new(0, $"hostcuda: {library.NameOrReason}; run native/hostcuda/build.sh (it needs g++), or set Z1_HOSTCUDA to the path of libhostcuda.so");
    }

    /// <summary>The library behind a LibraryImport name other than "cuda"; opened once.</summary>
    internal static OpenedLibrary OpenNamed(string name)
    {
        lock (s_gate)
        {
            if (s_opened.TryGetValue(name, out var known))
            {
                return known;
            }

            var host = s_driver == (int)CudaDriver.HostCuda;
            var library = name switch
            {
                "cublasLt" or "nccl" when host => s_opened["cuda"],
                "nvrtc" => Nvrtc.OpenLibrary(),
                "cublasLt" => OpenCublasLt(),
                "nccl" => InToolkits("Z1_NCCL", "libnccl.so.2"),
                "nvToolsExt" => InToolkits("Z1_NVTX", "libnvToolsExt.so.1"),
                _ => new(0, ""),
            };
            if (library.Handle != 0)
            {
                s_opened[name] = library;
            }

            return library;
        }
    }

    /// <summary>cuBLASLt for the driver of this process: a later one loads, and then cannot start.</summary>
    internal static OpenedLibrary OpenCublasLt() => InToolkitsOfDriver("Z1_CUBLASLT", "libcublasLt.so.13", "libcublasLt.so.12");

    /// <summary>As <see cref="InToolkits"/>, but none of a later CUDA than the driver is of; older ones newer drivers load.</summary>
    /// <param name="variable">names another file or directory</param>
    /// <param name="names">the newest first, NAME.so.MAJOR; the last is always tried</param>
    internal static OpenedLibrary InToolkitsOfDriver(string variable, params string[] names)
    {
        var major = CudaProbe.DriverVersion() / 1000;
        return InToolkits(variable, [.. names.Where(n => major == 0 || n == names[^1] || MajorOf(n) <= major)]);

        static int MajorOf(string name) => int.Parse(name[(name.IndexOf(".so.", StringComparison.Ordinal) + 4)..].Split('.')[0], CultureInfo.InvariantCulture);
    }

    /// <summary>Opens one of NVIDIA's toolkit libraries.</summary>
    internal static OpenedLibrary InToolkits(string variable, params ReadOnlySpan<string> names) =>
        OpenAs(Environment.GetEnvironmentVariable(variable), variable, LibraryFolders.Toolkits(), names);

    /// <summary>Loads a file, after the libraries beside it that it opens by name.</summary>
    internal static bool TryLoad(string path, out nint handle)
    {
        if (Path.GetFileName(path).StartsWith("libnvrtc.so", StringComparison.Ordinal) && Path.GetDirectoryName(Path.GetFullPath(path)) is { } folder)
        {
            // NVRTC opens its builtins by soname at the first compile; one that is already loaded is found wherever it lies.
            foreach (var builtins in Files(folder, "libnvrtc-builtins.so.*"))
            {
                _ = NativeLibrary.TryLoad(builtins, out _);
            }
        }

        return NativeLibrary.TryLoad(path, out handle);
    }

    /// <summary>The file that holds a symbol, or null where the system does not say.</summary>
    internal static unsafe string? FileOf(nint symbol)
    {
        if (!OperatingSystem.IsLinux())
        {
            return null;
        }

        SymbolInfo info = default;
        return dladdr(symbol, &info) != 0 ? Marshal.PtrToStringUTF8(info.FileName) : null;
    }

    private static OpenedLibrary OpenIn(string directory, ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            var path = Path.Combine(directory, name);
            if (File.Exists(path) && TryLoad(path, out var handle))
            {
                return new(handle, path);
            }
        }

        return default;
    }

    private static string[] Files(string folder, string pattern)
    {
        try
        {
            return Directory.GetFiles(folder, pattern);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

#pragma warning disable CA2255 // the resolver must be in place before the first P/Invoke of this assembly, wherever that is
    [ModuleInitializer]
    internal static void Install() => NativeLibrary.SetDllImportResolver(typeof(NativeLibraries).Assembly, Resolve);
#pragma warning restore CA2255

    private static nint Resolve(string name, System.Reflection.Assembly assembly, DllImportSearchPath? path)
    {
        if (name == "cuda")
        {
            lock (s_gate)
            {
                return s_opened.TryGetValue(name, out var driver) ? driver.Handle : 0;
            }
        }

        return name is "nvrtc" or "cublasLt" or "nccl" or "nvToolsExt" ? OpenNamed(name).Handle : 0;
    }

    [LibraryImport("libc")]
    private static unsafe partial int dladdr(nint addr, SymbolInfo* info);

    private struct SymbolInfo
    {
        public nint FileName, FileBase, SymbolName, SymbolAddress;
    }
}
