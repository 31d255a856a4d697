using System.Collections.Concurrent;
using System.Globalization;
using System.Text;

namespace Z1Coder.Runtime;

/// <summary>A CUDA device and one reference on its primary context. Disposing it unloads its kernels; the context goes with the last
/// stream, event, graph and buffer.</summary>
public sealed unsafe class CudaDevice : IDisposable
{
    /// <summary>1000 · major + 10 · minor: the oldest driver interface that the imports are written for.</summary>
    internal const int OldestDriver = 12000;

    /// <summary>The oldest compute capability that has bf16 arithmetic and cp.async: Ampere.</summary>
    internal const int OldestCapability = 80;

    private readonly ConcurrentDictionary<CudaKernel, CudaFunction> _functions = [];
    private readonly Dictionary<(KernelSource Source, string Constants), CudaHandle> _modules = [];
    private readonly Lock _gate = new();

    private CudaDevice(CudaDriver driver, int ordinal)
    {
        Driver = driver;
        Ordinal = ordinal;
        int device;
        Cuda.Check(Cuda.cuDeviceGet(&device, ordinal));
        var name = stackalloc byte[256];
        Cuda.Check(Cuda.cuDeviceGetName(name, 255, device));
        Name = Encoding.UTF8.GetString(new ReadOnlySpan<byte>(name, 256)[..new ReadOnlySpan<byte>(name, 256).IndexOf((byte)0)]);
        Capability = (Attribute(device, Cuda.CapabilityMajor) * 10) + Attribute(device, Cuda.CapabilityMinor);
        Architecture = ArchitectureOf(Capability, Name);
        Multiprocessors = Attribute(device, Cuda.MultiprocessorCount);
        MaxSharedBytes = Attribute(device, Cuda.MaxSharedOptIn);
        nuint total;
        Cuda.Check(Cuda.cuDeviceTotalMem_v2(&total, device));
        TotalBytes = (long)total;
        Context = CudaContext.Retain(device);
    }

    /// <summary>Which library answers.</summary>
    public CudaDriver Driver { get; }

    /// <summary>Number of the device among those the driver shows.</summary>
    public int Ordinal { get; }

    /// <summary>The device, as the driver names it.</summary>
    public string Name { get; }

    /// <summary>What decides last bits on this device beside our own kernels: its name, and of a GPU what they are compiled for and the versions of
    /// the libraries that compile them and multiply matrices.</summary>
    /// <exception cref="NotSupportedException">cuBLASLt or NVRTC is absent; one sentence</exception>
    public string Numerics => IsHostCuda ? Name : $"{Name}, {Architecture}, cublasLt {CublasLtLibrary.Version}, {Nvrtc.Version()}";

    /// <summary>What kernels are compiled for: "sm_80", "sm_90a", … ; hostcuda says "sm_80" unless Z1_HOSTCUDA_ARCH says otherwise.</summary>
    public string Architecture { get; }

    /// <summary>10 · major + minor of the compute capability.</summary>
    public int Capability { get; }

    /// <summary>Streaming multiprocessors.</summary>
    public int Multiprocessors { get; }

    /// <summary>Bytes of device memory.</summary>
    public long TotalBytes { get; }

    /// <summary>Bytes of device memory that an allocation may take now.</summary>
    public long FreeBytes
    {
        get
        {
            Context.MakeCurrent();
            nuint free, total;
            Cuda.Check(Cuda.cuMemGetInfo_v2(&free, &total));
            return (long)free;
        }
    }

    /// <summary>Bytes of shared memory that one block may take.</summary>
    public int MaxSharedBytes { get; }

    /// <summary>Whether kernels run on the CPU.</summary>
    public bool IsHostCuda => Driver == CudaDriver.HostCuda;

    /// <summary>Streams, events, graphs, allocations and pinned buffers that were not disposed. Modules live as long as the device and are
    /// not counted.</summary>
    public int LiveHandles => Context.Live;

    internal CudaContext Context { get; }

    /// <summary>Opens a device.</summary>
    /// <exception cref="NotSupportedException">no driver, an old one, no such device, or an architecture without bf16; one sentence</exception>
    public static CudaDevice Open(CudaDriver driver = CudaDriver.Nvidia, int ordinal = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(ordinal);
        NativeLibraries.UseDriver(driver);
        int version, count = 0;
        Cuda.Check(Cuda.cuDriverGetVersion(&version));
        CheckVersion(version);
        var result = Cuda.cuInit(0);
        if (result == Cuda.Success)
        {
            Cuda.Check(Cuda.cuDeviceGetCount(&count));
        }
        else if (result != Cuda.NoDevice)
        {
            Cuda.Throw(result, "cuInit(0)");
        }

        return ordinal < count
            ? new(driver, ordinal)
            : throw new NotSupportedException(count == 0
                ? "the CUDA driver shows no device; check nvidia-smi and CUDA_VISIBLE_DEVICES"
                : $"there is no CUDA device {ordinal}: the driver shows {count}, counted from 0");
    }

    /// <summary>Whether a driver library can be loaded here; <paramref name="reason"/> is one sentence when not.</summary>
    public static bool IsAvailable(CudaDriver driver, out string reason)
    {
        var library = NativeLibraries.OpenDriver(driver);
        reason = library.Handle != 0 ? "" : library.NameOrReason;
        return library.Handle != 0;
    }

    /// <summary>Name and architecture, for messages.</summary>
    public override string ToString() => $"{Name} ({Architecture})";

    /// <summary>Unloads the kernels. The context is released when the last stream, event, graph and buffer is gone.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _functions.Clear();
            foreach (var module in _modules.Values)
            {
                module.Dispose();
            }

            _modules.Clear();
            Context.Dispose();
        }
    }

    /// <exception cref="NotSupportedException">older than <see cref="OldestDriver"/></exception>
    internal static void CheckVersion(int version)
    {
        if (version < OldestDriver)
        {
            throw new NotSupportedException(string.Create(
                CultureInfo.InvariantCulture,
                $"the NVIDIA driver supports CUDA {version / 1000}.{version % 1000 / 10}, and 12.0 or later is needed; install driver 525 or later"));
        }
    }

    /// <summary>The target of the compiler: exact, with the architecture's own instructions where kernels use them.</summary>
    internal static string ArchitectureOf(int capability, string name) => capability switch
    {
        < OldestCapability => throw new NotSupportedException(string.Create(
            CultureInfo.InvariantCulture,
            $"{name} has compute capability {capability / 10}.{capability % 10}, and 8.0 or later (bf16 arithmetic) is needed")),
        90 => "sm_90a",
        _ => string.Create(CultureInfo.InvariantCulture, $"sm_{capability}"),
    };

    /// <summary>A kernel on this device: compiled and loaded at first use.</summary>
    internal CudaFunction Function(CudaKernel kernel)
    {
        if (_functions.TryGetValue(kernel, out var known))
        {
            return known;
        }

        lock (_gate)
        {
            if (_functions.TryGetValue(kernel, out known))
            {
                return known;
            }

            Context.MakeCurrent();
            var key = (kernel.Source, kernel.ConstantsText);
            if (!_modules.TryGetValue(key, out var module))
            {
                var image = KernelCompiler.Compile(Driver, kernel.Source, kernel.Constants, Architecture);
                module = Load(kernel, image.Image);
                _modules.Add(key, module);
            }

            return _functions[kernel] = CudaFunction.Find(this, kernel, module.Value);
        }
    }

    private static int Attribute(int device, int attribute)
    {
        int value;
        Cuda.Check(Cuda.cuDeviceGetAttribute(&value, attribute, device));
        return value;
    }

    private CudaHandle Load(CudaKernel kernel, byte[] image)
    {
        nint module;
        fixed (byte* bytes = image)
        {
            var result = Cuda.cuModuleLoadData(&module, bytes);
            if (result != Cuda.Success)
            {
                Cuda.Throw(result, $"loading {kernel.Source.Stem}.cu for {Architecture}");
            }
        }

        return new(Context, module, CudaHandleKind.Module);
    }
}
