using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// One allocation per role: declare every tensor first, allocate once, free at once. The only owner of tensor memory; a
/// <see cref="Tensor{T}"/> is a view into it. <see cref="Bytes"/> is known before any memory is taken, which is how `z1 plan` works.
/// </summary>
/// <remarks>Tensors start at multiples of 64 bytes (a cache line, and an AVX-512 vector). Fresh memory reads as zero.</remarks>
public sealed unsafe partial class Arena : IDisposable
{
    /// <summary>Every tensor starts at a multiple of this many bytes.</summary>
    public const int Alignment = 64;

    private readonly bool _guarded;
    private readonly List<(long Offset, long Length)> _guards = [];
    private byte* _base;
    private long _declared;
    private bool _disposed;

    /// <summary>An empty arena; <paramref name="name"/> is its role, for messages and plans ("weights", "activations").</summary>
    public Arena(string name)
        : this(name, guarded: false)
    {
    }

    /// <summary>For tests: with <paramref name="guarded"/>, each tensor ends where an inaccessible page begins (its start is then aligned
    /// to its elements only), so that one element too far ends the process instead of passing.</summary>
    internal Arena(string name, bool guarded)
    {
        Name = name;
        _guarded = guarded && OperatingSystem.IsLinux();
    }

    /// <summary>The role, for messages and plans.</summary>
    public string Name { get; }

    /// <summary>Bytes declared so far, padding included.</summary>
    public long Bytes => _declared;

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

        var offset = _declared;
        _declared = checked(offset + RoundUp(shape.Count * Unsafe.SizeOf<T>()));
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

        var bytes = Math.Max(_declared, Alignment);
        _base = (byte*)Pages.Map(bytes);
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
        if (_base != null)
        {
            Pages.Unmap((nint)_base, Math.Max(_declared, Alignment));
            _base = null;
        }

        _disposed = true;
        GC.SuppressFinalize(this);
    }

    /// <summary>Returns the memory to the system when the owner forgot to.</summary>
    ~Arena() => Dispose();

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

    private static long RoundUp(long bytes) => checked(bytes + Alignment - 1) / Alignment * Alignment;

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
