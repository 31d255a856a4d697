using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>One object of the driver or of cuBLASLt. It keeps its context alive, makes it current before it releases, and is counted.</summary>
internal sealed unsafe class CudaHandle : SafeHandle
{
    private readonly CudaContext _context;
    private readonly CudaHandleKind _kind;

    public CudaHandle(CudaContext context, nint value, CudaHandleKind kind)
        : base(0, ownsHandle: true)
    {
        _context = context;
        _kind = kind;
        var added = false;
        context.DangerousAddRef(ref added);
        SetHandle(value);
        context.Count(kind, 1);
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>The value; throws after Dispose.</summary>
    public nint Value
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return handle;
        }
    }

    protected override bool ReleaseHandle()
    {
        nint popped;
        var pushed = Cuda.cuCtxPushCurrent_v2(_context.Value) == Cuda.Success;      // the finalizer thread has no context of its own
        var result = _kind switch
        {
            CudaHandleKind.Stream => Cuda.cuStreamDestroy_v2(handle),
            CudaHandleKind.Event => Cuda.cuEventDestroy_v2(handle),
            CudaHandleKind.Graph => Cuda.cuGraphExecDestroy(handle),
            CudaHandleKind.Memory => Cuda.cuMemFree_v2(handle),
            CudaHandleKind.Pinned => Cuda.cuMemFreeHost(handle),
            CudaHandleKind.CublasLt => (int)CublasLt.cublasLtDestroy(handle),
            CudaHandleKind.CublasLtMatmulDesc => (int)CublasLt.cublasLtMatmulDescDestroy(handle),
            CudaHandleKind.CublasLtMatrixLayout => (int)CublasLt.cublasLtMatrixLayoutDestroy(handle),
            CudaHandleKind.CublasLtPreference => (int)CublasLt.cublasLtMatmulPreferenceDestroy(handle),
            _ => Cuda.cuModuleUnload(handle),
        };
        if (pushed)
        {
            _ = Cuda.cuCtxPopCurrent_v2(&popped);
        }

        _context.Count(_kind, -1);
        _context.DangerousRelease();
        return result == Cuda.Success;
    }
}
