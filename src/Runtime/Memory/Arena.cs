using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// One allocation per role: declare every tensor first, allocate once, free at once. The only owner of tensor memory; a
/// <see cref="Tensor{T}"/> is a view into it. <see cref="Bytes"/> is known before any memory is taken, which is how `z1 plan` works.
/// </summary>
/// <remarks>Tensors start at multiples of 64 bytes in host memory (a cache line, and an AVX-512 vector), of 256 in device memory (what the
/// driver aligns to). Fresh memory reads as zero. Disposing a device arena waits for the device.</remarks>
public sealed unsafe partial class Arena : IDisposable
{
    /// <summary>Every tensor in host memory starts at a multiple of this many bytes.</summary>
    public const int Alignment = 64;

    /// <summary>Every tensor in device memory starts at a multiple of this many bytes.</summary>
    public const int DeviceAlignment = 256;

    private readonly bool _guarded;
    private readonly List<(long Offset, long Length)> _guards = [];
    private byte* _base;
    private byte* _hostBase;
    private CudaHandle? _deviceMemory;
    private long _declared;
    private bool _disposed;

    /// <summary>An empty arena; <paramref name="name"/> is its role, for messages and plans ("weights", "activations").</summary>
    public Arena(string name)
        : this(name, guarded: false)
    {
    }

    /// <summary>An empty arena in the memory of <paramref name="device"/>.</summary>
    public Arena(string name, CudaDevice device)
        : this(name, guarded: false)
    {
        ArgumentNullException.ThrowIfNull(device);
        Device = device;
    }

    /// <summary>An empty arena in host memory that <paramref name="copier"/> copies to and from without staging.</summary>
    internal static Arena Pinned(string name, CudaDevice copier) => new(name, guarded: false) { Copier = copier };

    /// <summary>For tests: with <paramref name="guarded"/>, each tensor ends where an inaccessible page begins (its start is then aligned
    /// to its elements only), so that one element too far ends the process instead of passing.</summary>
    internal Arena(string name, bool guarded)
    {
        Name = name;
        _guarded = guarded && OperatingSystem.IsLinux();
    }

    /// <summary>The role, for messages and plans.</summary>
    public string Name { get; }

    /// <summary>The device whose memory it is; null for host memory.</summary>
    public CudaDevice? Device { get; }

    /// <summary>The stream that made it, in whose order host code reads and writes its tensors; null for host memory.</summary>
    internal CudaStream? Stream { get; init; }

    /// <summary>The device that the host memory is pinned for; null for memory that the system may move.</summary>
    private CudaDevice? Copier { get; init; }

    /// <summary>Bytes declared so far, padding included.</summary>
    public long Bytes => RoundUp(_declared);

    /// <summary>Whether <see cref="Allocate"/> has run.</summary>
    public bool IsAllocated => _base != null;

    internal byte* Base
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _base != null ? _base : throw new InvalidOperationException($"arena '{Name}' is declared but not allocated");
        }
    }

    /// <summary>The first byte, for code that reads it here.</summary>
    internal byte* HostBase => _hostBase != null ? _hostBase : ThrowNotHost();

    /// <summary>False leaves fresh device memory as the driver gives it (hostcuda: NaN), for scratch that must be written before it is read.</summary>
    internal bool Zeroed { get; init; } = true;

    /// <summary>Reserves room for a tensor. The view may be kept at once and read after <see cref="Allocate"/>.</summary>
    /// <exception cref="InvalidOperationException">the arena is already allocated</exception>
    public Tensor<T> Declare<T>(params ReadOnlySpan<int> extents)
        where T : unmanaged
    {
        if (IsAllocated || _disposed)
        {
            throw new InvalidOperationException($"arena '{Name}' is already allocated; declare every tensor first");
        }

        var shape = new Shape(extents);
        if (_guarded)
        {
            return DeclareGuarded<T>(shape);
        }

        // The end is not rounded: on hostcuda an access past the last element is then past the allocation.
        var offset = RoundUp(_declared);
        _declared = checked(offset + (shape.Count * Unsafe.SizeOf<T>()));
        return new Tensor<T>(this, offset, shape);
    }

    /// <summary>Takes the memory, zeroed.</summary>
    /// <exception cref="InsufficientMemoryException">the system refuses; the message names role and bytes</exception>
    public void Allocate()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (IsAllocated)
        {
            throw new InvalidOperationException($"arena '{Name}' is already allocated");
        }

        if (Device is not null)
        {
            AllocateOnDevice(Device);
            return;
        }

        if (Copier is not null)
        {
            AllocatePinned(Copier);
            return;
        }

        var bytes = HostBytes;
        _base = _hostBase = (byte*)Pages.Map(bytes);
        if (_base == null)
        {
            throw new InsufficientMemoryException($"cannot allocate {bytes:N0} bytes for {Name}");
        }

        foreach (var (offset, length) in _guards)
        {
            Pages.Protect((nint)_base + (nint)offset, length);
        }
    }

    /// <summary>Frees the memory; every view becomes invalid and throws on use.</summary>
    public void Dispose()
    {
        _deviceMemory?.Dispose();
        Release();
        GC.SuppressFinalize(this);
    }

    /// <summary>Returns the memory to the system when the owner forgot to; device memory has a handle that does.</summary>
    ~Arena() => Release();

    private long HostBytes => Math.Max(RoundUp(_declared), Alignment);

    private void Release()
    {
        if (_hostBase != null && Copier is null)
        {
            Pages.Unmap((nint)_hostBase, HostBytes);
        }

        _base = _hostBase = null;
        _disposed = true;
    }

    private void AllocateOnDevice(CudaDevice device)
    {
        device.Context.MakeCurrent();
        var bytes = (nuint)Math.Max(_declared, 1);
        nint address;
        var result = Cuda.cuMemAlloc_v2(&address, bytes);
        if (result == Cuda.OutOfMemory)
        {
            throw new InsufficientMemoryException(
                $"cannot allocate {(long)bytes:N0} bytes of device memory for {Name}: {device.FreeBytes:N0} of {device.TotalBytes:N0} are free on {device}");
        }

        Cuda.Check(result, $"cuMemAlloc(&address, {bytes}) for {Name}");
        _deviceMemory = new(device.Context, address, CudaHandleKind.Memory);
        _base = (byte*)address;
        if (Zeroed)
        {
            Cuda.Check(Cuda.cuMemsetD8Async(address, 0, bytes, 0));
            Cuda.Check(Cuda.cuCtxSynchronize());        // streams do not wait for the default stream, where the fill ran
        }
    }

    private void AllocatePinned(CudaDevice copier)
    {
        copier.Context.MakeCurrent();
        var bytes = (nuint)HostBytes;
        nint address;
        var result = Cuda.cuMemHostAlloc(&address, bytes, 0);
        if (result == Cuda.OutOfMemory)
        {
            throw new InsufficientMemoryException($"cannot pin {(long)bytes:N0} bytes of host memory for {Name}");
        }

        Cuda.Check(result, $"cuMemHostAlloc(&address, {bytes}, 0) for {Name}");
        _deviceMemory = new(copier.Context, address, CudaHandleKind.Pinned);
        NativeMemory.Clear((void*)address, bytes);
        _base = _hostBase = (byte*)address;
    }

    [DoesNotReturn]
    private byte* ThrowNotHost()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        throw new InvalidOperationException(_base == null
            ? $"arena '{Name}' is declared but not allocated"
            : $"arena '{Name}' is in the memory of {Device}, which the host cannot read; use TensorCopy");
    }

    private Tensor<T> DeclareGuarded<T>(Shape shape)
        where T : unmanaged
    {
        var page = Environment.SystemPageSize;
        var bytes = shape.Count * Unsafe.SizeOf<T>();
        var end = _declared + ((bytes + page - 1) / page * page);
        _guards.Add((end, page));
        _declared = end + page;
        return new Tensor<T>(this, end - bytes, shape);
    }

    private long RoundUp(long bytes)
    {
        if (_guarded)
        {
            return bytes;
        }

        var alignment = Device is null ? Alignment : DeviceAlignment;
        return checked(bytes + alignment - 1) / alignment * alignment;
    }

    /// <summary>Fresh zero pages from the system, huge where it grants them: touched first by whoever writes first.</summary>
    private static partial class Pages
    {
        private const int ReadWrite = 3, PrivateAnonymous = 0x22, HugePages = 14;

        /// <summary>The address, or 0 when the system refuses.</summary>
        public static nint Map(long bytes)
        {
            if (!OperatingSystem.IsLinux())
            {
                return NativeMemory.AlignedAlloc((nuint)bytes, Alignment) is var memory && memory != null ? Zero(memory, bytes) : 0;
            }

            var address = mmap(0, (nuint)bytes, ReadWrite, PrivateAnonymous, -1, 0);
            if (address == -1)
            {
                return 0;
            }

            _ = madvise(address, (nuint)bytes, HugePages);   // a hint; refusal changes speed only
            return address;
        }

        public static void Unmap(nint address, long bytes)
        {
            if (OperatingSystem.IsLinux())
            {
                _ = munmap(address, (nuint)bytes);
            }
            else
            {
                NativeMemory.AlignedFree((void*)address);
            }
        }

        private static nint Zero(void* address, long bytes)
        {
            NativeMemory.Clear(address, (nuint)bytes);
            return (nint)address;
        }

        public static void Protect(nint address, long bytes)
        {
            if (mprotect(address, (nuint)bytes, 0) != 0)
            {
                throw new InvalidOperationException("mprotect failed");
            }
        }

        [LibraryImport("libc")]
        private static partial int mprotect(nint addr, nuint length, int prot);

        [LibraryImport("libc")]
        private static partial nint mmap(nint addr, nuint length, int prot, int flags, int fd, nint offset);

        [LibraryImport("libc")]
        private static partial int munmap(nint addr, nuint length);

        [LibraryImport("libc")]
        private static partial int madvise(nint addr, nuint length, int advice);
    }
}
