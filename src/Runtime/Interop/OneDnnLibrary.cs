using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// The functions of one loaded libdnnl that a matmul needs. The C interfaces of 2.x (descriptors are structs filled in place) and
/// 3.x (descriptors are handles) differ in four of them; both stand behind the methods of this class. Never unloaded.
/// </summary>
internal sealed unsafe class OneDnnLibrary
{
    private const int DescriptorBytes = 4096;     // 2.x: a memory descriptor takes 696 bytes, a matmul descriptor 2800
    private const int Cpu = 1, InOrder = 1, UserScratchpad = 1, ScratchpadDescriptor = 136, Unimplemented = 3;
    private const int Float32 = 3, BFloat16Code = 2;

    private readonly nint _library;
    private readonly bool _handles;               // 3.x
    private readonly delegate* unmanaged<nint*, int, nuint, int> _engineCreate;
    private readonly delegate* unmanaged<nint*, nint, uint, int> _streamCreate;
    private readonly delegate* unmanaged<nint, int> _streamDestroy;
    private readonly delegate* unmanaged<nint*, int> _attrCreate;
    private readonly delegate* unmanaged<nint, int> _attrDestroy;
    private readonly delegate* unmanaged<nint, int, int> _attrSetScratchpadMode;
    private readonly delegate* unmanaged<nint, nint, int> _attrSetPostOps;
    private readonly delegate* unmanaged<nint*, int> _postOpsCreate;
    private readonly delegate* unmanaged<nint, int> _postOpsDestroy;
    private readonly void* _postOpsAppendSum;
    private readonly void* _memoryDescWithStrides;
    private readonly delegate* unmanaged<nint, int> _memoryDescDestroy;
    private readonly delegate* unmanaged<nint, nuint> _memoryDescGetSize;
    private readonly void* _matmulDesc;
    private readonly delegate* unmanaged<nint*, nint, nint, nint, nint, int> _primitiveDescCreate2;
    private readonly delegate* unmanaged<nint, int> _primitiveDescDestroy;
    private readonly delegate* unmanaged<nint, int, int, nint> _primitiveDescQueryMd;
    private readonly delegate* unmanaged<nint*, nint, int> _primitiveCreate;
    private readonly delegate* unmanaged<nint, int> _primitiveDestroy;
    private readonly delegate* unmanaged<nint, nint, int, OneDnnArgument*, int> _primitiveExecute;
    private readonly delegate* unmanaged<nint*, nint, nint, nint, int> _memoryCreate;
    private readonly delegate* unmanaged<nint, int> _memoryDestroy;
    private readonly delegate* unmanaged<nint, nint, int> _memorySetDataHandle;
    private readonly delegate* unmanaged<int, void> _ompSetNumThreads;
    private readonly nint _engine;

    private OneDnnLibrary(nint library)
    {
        _library = library;
        var version = ((delegate* unmanaged<int*>)Symbol("dnnl_version"))();      // dnnl_version_t starts with major, minor, patch
        Version = new Version(version[0], version[1], version[2]);
        if (Version.Major is not (2 or 3))
        {
            throw new NotSupportedException($"version {Version}, where 2.x or 3.x is understood");
        }

        _handles = Version.Major == 3;
        Path = NativeLibraries.FileOf(Symbol("dnnl_version"));
        _engineCreate = (delegate* unmanaged<nint*, int, nuint, int>)Symbol("dnnl_engine_create");
        _streamCreate = (delegate* unmanaged<nint*, nint, uint, int>)Symbol("dnnl_stream_create");
        _streamDestroy = (delegate* unmanaged<nint, int>)Symbol("dnnl_stream_destroy");
        _attrCreate = (delegate* unmanaged<nint*, int>)Symbol("dnnl_primitive_attr_create");
        _attrDestroy = (delegate* unmanaged<nint, int>)Symbol("dnnl_primitive_attr_destroy");
        _attrSetScratchpadMode = (delegate* unmanaged<nint, int, int>)Symbol("dnnl_primitive_attr_set_scratchpad_mode");
        _attrSetPostOps = (delegate* unmanaged<nint, nint, int>)Symbol("dnnl_primitive_attr_set_post_ops");
        _postOpsCreate = (delegate* unmanaged<nint*, int>)Symbol("dnnl_post_ops_create");
        _postOpsDestroy = (delegate* unmanaged<nint, int>)Symbol("dnnl_post_ops_destroy");
        _postOpsAppendSum = (void*)Symbol("dnnl_post_ops_append_sum");
        _memoryDescWithStrides = (void*)Symbol(_handles ? "dnnl_memory_desc_create_with_strides" : "dnnl_memory_desc_init_by_strides");
        _memoryDescGetSize = (delegate* unmanaged<nint, nuint>)Symbol("dnnl_memory_desc_get_size");
        _matmulDesc = (void*)Symbol(_handles ? "dnnl_matmul_primitive_desc_create" : "dnnl_matmul_desc_init");
        if (_handles)
        {
            _memoryDescDestroy = (delegate* unmanaged<nint, int>)Symbol("dnnl_memory_desc_destroy");
        }
        else
        {
            _primitiveDescCreate2 = (delegate* unmanaged<nint*, nint, nint, nint, nint, int>)Symbol("dnnl_primitive_desc_create");
        }

        _primitiveDescDestroy = (delegate* unmanaged<nint, int>)Symbol("dnnl_primitive_desc_destroy");
        _primitiveDescQueryMd = (delegate* unmanaged<nint, int, int, nint>)Symbol("dnnl_primitive_desc_query_md");
        _primitiveCreate = (delegate* unmanaged<nint*, nint, int>)Symbol("dnnl_primitive_create");
        _primitiveDestroy = (delegate* unmanaged<nint, int>)Symbol("dnnl_primitive_destroy");
        _primitiveExecute = (delegate* unmanaged<nint, nint, int, OneDnnArgument*, int>)Symbol("dnnl_primitive_execute");
        _memoryCreate = (delegate* unmanaged<nint*, nint, nint, nint, int>)Symbol("dnnl_memory_create");
        _memoryDestroy = (delegate* unmanaged<nint, int>)Symbol("dnnl_memory_destroy");
        _memorySetDataHandle = (delegate* unmanaged<nint, nint, int>)Symbol("dnnl_memory_set_data_handle");

        // dlsym on the library also searches what it is linked to: the OpenMP runtime that this very build uses, if any
        if (NativeLibrary.TryGetExport(library, "omp_set_num_threads", out var setThreads))
        {
            _ompSetNumThreads = (delegate* unmanaged<int, void>)setThreads;
        }

        nint engine;
        Check(_engineCreate(&engine, Cpu, 0), "dnnl_engine_create");
        _engine = engine;
        InstructionSet = ((delegate* unmanaged<int>)Symbol("dnnl_get_effective_cpu_isa"))() switch
        {
            0x27 => "avx512_core",
            0x67 => "avx512_core_vnni",
            0xe7 => "avx512_core_bf16",
            0x1ef => "avx512_core_fp16",
            0x3e7 or 0xfef => "avx512_core_amx",
            0x1fef => "avx512_core_amx_fp16",
            0x7 => "avx2",
            var other => $"0x{other:x}",
        };
        SupportsFloat = IsImplemented(bfloat16: false);
        SupportsBFloat16 = IsImplemented(bfloat16: true);
    }

    /// <summary>2.6.3, say.</summary>
    public Version Version { get; }

    /// <summary>The file it was loaded from, where the system tells.</summary>
    public string? Path { get; }

    /// <summary>The best instruction set that oneDNN will use here.</summary>
    public string InstructionSet { get; }

    /// <summary>Whether fp32 matmuls exist here.</summary>
    public bool SupportsFloat { get; }

    /// <summary>Whether bf16 matmuls with fp32 accumulation exist for this processor.</summary>
    public bool SupportsBFloat16 { get; }

    /// <summary>Binds every function, or says in a few words what is wrong.</summary>
    public static OneDnnLibrary? TryBind(nint library, out string problem)
    {
        try
        {
            problem = "";
            return new OneDnnLibrary(library);
        }
        catch (Exception e) when (e is EntryPointNotFoundException or NotSupportedException or InvalidOperationException)
        {
            problem = e.Message;
            return null;
        }
    }

    /// <summary>How many OpenMP threads oneDNN uses when called from this thread; no effect on a build without OpenMP.</summary>
    public void SetThreadsOfThisThread(int threads)
    {
        if (_ompSetNumThreads != null)
        {
            _ompSetNumThreads(threads);
        }
    }

    /// <summary>An in-order stream.</summary>
    public nint CreateStream()
    {
        nint stream;
        Check(_streamCreate(&stream, _engine, InOrder), "dnnl_stream_create");
        return stream;
    }

    /// <summary>The primitive for a shape and memory objects for its operands, or null where oneDNN has no code for it.</summary>
    public OneDnnMatmul? TryCreateMatmul(in OneDnnMatmulKey key)
    {
        nint attr = 0, a = 0, b = 0, bias = 0, c = 0, description = 0;
        var matmul = new OneDnnMatmul(this);
        var space = (byte*)NativeMemory.AllocZeroed(5 * DescriptorBytes);
        try
        {
            var input = key.InputIsBFloat16 ? BFloat16Code : Float32;
            Check(_attrCreate(&attr), "dnnl_primitive_attr_create");
            Check(_attrSetScratchpadMode(attr, UserScratchpad), "dnnl_primitive_attr_set_scratchpad_mode");
            if (key.Accumulate)
            {
                AppendSum(attr);
            }

            a = Descriptor(space, key.M, key.K, key.ARow, key.AColumn, input);
            b = Descriptor(space + DescriptorBytes, key.K, key.N, key.BRow, key.BColumn, input);
            c = Descriptor(space + (2 * DescriptorBytes), key.M, key.N, key.CRow, 1, key.OutputIsBFloat16 ? BFloat16Code : Float32);
            bias = key.HasBias ? Descriptor(space + (3 * DescriptorBytes), 1, key.N, key.N, 1, input) : 0;
            var status = MatmulDescription(&description, space + (4 * DescriptorBytes), a, b, bias, c, attr);
            if (status == Unimplemented)
            {
                matmul.Dispose();
                return null;
            }

            Check(status, "dnnl_matmul_primitive_desc_create");
            matmul.Primitive = Create(_primitiveCreate, description);
            matmul.A = Memory(a);
            matmul.B = Memory(b);
            matmul.C = Memory(c);
            matmul.Bias = key.HasBias ? Memory(bias) : 0;
            var scratchpad = _primitiveDescQueryMd(description, ScratchpadDescriptor, 0);
            matmul.ScratchpadBytes = scratchpad == 0 ? 0 : (long)_memoryDescGetSize(scratchpad);
            matmul.Scratchpad = matmul.ScratchpadBytes == 0 ? 0 : Memory(scratchpad);
            return matmul;
        }
        catch
        {
            matmul.Dispose();
            throw;
        }
        finally
        {
            Destroy(_primitiveDescDestroy, description);
            Destroy(_attrDestroy, attr);
            if (_handles)
            {
                Destroy(_memoryDescDestroy, a);
                Destroy(_memoryDescDestroy, b);
                Destroy(_memoryDescDestroy, c);
                Destroy(_memoryDescDestroy, bias);
            }

            NativeMemory.Free(space);
        }
    }

    /// <summary>Points a memory object at an address.</summary>
    public void SetAddress(nint memory, nint address) =>
        Check(_memorySetDataHandle(memory, address), "dnnl_memory_set_data_handle");

    /// <summary>Runs a primitive; returns when it is done.</summary>
    public void Execute(nint primitive, nint stream, OneDnnArgument* arguments, int count) =>
        Check(_primitiveExecute(primitive, stream, count, arguments), "dnnl_primitive_execute");

    /// <summary>Frees a stream; 0 is none.</summary>
    public void DestroyStream(nint stream) => Destroy(_streamDestroy, stream);

    /// <summary>Frees a primitive; 0 is none.</summary>
    public void DestroyPrimitive(nint primitive) => Destroy(_primitiveDestroy, primitive);

    /// <summary>Frees a memory object; 0 is none.</summary>
    public void DestroyMemory(nint memory) => Destroy(_memoryDestroy, memory);

    private bool IsImplemented(bool bfloat16)
    {
        var key = new OneDnnMatmulKey
        {
            M = 16, N = 16, K = 16, ARow = 16, AColumn = 1, BRow = 1, BColumn = 16, CRow = 16,
            InputIsBFloat16 = bfloat16, OutputIsBFloat16 = bfloat16, HasBias = true, Accumulate = true,
        };
        using var matmul = TryCreateMatmul(key);
        return matmul is not null;
    }

    private int MatmulDescription(nint* description, byte* space, nint a, nint b, nint bias, nint c, nint attr)
    {
        if (_handles)
        {
            return ((delegate* unmanaged<nint*, nint, nint, nint, nint, nint, nint, int>)_matmulDesc)(
                description, _engine, a, b, bias, c, attr);
        }

        var status = ((delegate* unmanaged<byte*, nint, nint, nint, nint, int>)_matmulDesc)(space, a, b, bias, c);
        return status != 0 ? status : _primitiveDescCreate2(description, (nint)space, attr, _engine, 0);
    }

    private nint Descriptor(byte* space, long rows, long columns, long rowStride, long columnStride, int type)
    {
        var extents = stackalloc long[12];
        var strides = stackalloc long[12];
        (extents[0], extents[1], strides[0], strides[1]) = (rows, columns, rowStride, columnStride);
        if (_handles)
        {
            nint handle;
            Check(
                ((delegate* unmanaged<nint*, int, long*, int, long*, int>)_memoryDescWithStrides)(&handle, 2, extents, type, strides),
                "dnnl_memory_desc_create_with_strides");
            return handle;
        }

        Check(
            ((delegate* unmanaged<byte*, int, long*, int, long*, int>)_memoryDescWithStrides)(space, 2, extents, type, strides),
            "dnnl_memory_desc_init_by_strides");
        return (nint)space;
    }

    private void AppendSum(nint attr)
    {
        nint operations;
        Check(_postOpsCreate(&operations), "dnnl_post_ops_create");
        try
        {
            var status = _handles
                ? ((delegate* unmanaged<nint, float, int, int, int>)_postOpsAppendSum)(operations, 1f, 0, 0)
                : ((delegate* unmanaged<nint, float, int>)_postOpsAppendSum)(operations, 1f);
            Check(status, "dnnl_post_ops_append_sum");
            Check(_attrSetPostOps(attr, operations), "dnnl_primitive_attr_set_post_ops");
        }
        finally
        {
            Destroy(_postOpsDestroy, operations);
        }
    }

    private nint Memory(nint descriptor)
    {
        nint memory;
        Check(_memoryCreate(&memory, descriptor, _engine, 0), "dnnl_memory_create");
        return memory;
    }

    private static nint Create(delegate* unmanaged<nint*, nint, int> create, nint description)
    {
        nint primitive;
        Check(create(&primitive, description), "dnnl_primitive_create");
        return primitive;
    }

    private static void Destroy(delegate* unmanaged<nint, int> destroy, nint handle)
    {
        if (handle != 0)
        {
            _ = destroy(handle);       // called from finalizers and finally blocks: a failure here has no one to tell
        }
    }

    private nint Symbol(string name) => NativeLibrary.GetExport(_library, name);

    private static void Check(int status, string call)
    {
        if (status != 0)
        {
            Fail(status, call);
        }
    }

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    private static void Fail(int status, string call) => throw new InvalidOperationException(
        $"{call} failed with status {status} ({status switch
        {
            1 => "out of memory",
            2 => "invalid arguments",
            3 => "unimplemented",
            5 => "runtime error",
            _ => "see dnnl_status_t",
        }})");
}
