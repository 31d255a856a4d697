using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>An ncclComm_t. It keeps its context alive, makes it current before it releases, and is counted.</summary>
internal sealed unsafe class NcclHandle : SafeHandle
{
    private readonly CudaContext _context;

    public NcclHandle(CudaContext context, nint value)
        : base(0, ownsHandle: true)
    {
        _context = context;
        var added = false;
        context.DangerousAddRef(ref added);
        SetHandle(value);
        context.Count(CudaHandleKind.NcclCommunicator, 1);
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>Whether all ranks are through with it, so that it is destroyed; otherwise it is aborted, which waits for nobody.</summary>
    public bool IsFinalized { get; set; }

    public nint Value => handle;

    protected override bool ReleaseHandle()
    {
        nint popped;
        var pushed = Cuda.cuCtxPushCurrent_v2(_context.Value) == Cuda.Success;
        var result = IsFinalized ? Nccl.ncclCommDestroy(handle) : NcclResult.InvalidUsage;
        if (result != NcclResult.Success)
        {
            result = Nccl.ncclCommAbort(handle);
        }

        if (pushed)
        {
            _ = Cuda.cuCtxPopCurrent_v2(&popped);
        }

        _context.Count(CudaHandleKind.NcclCommunicator, -1);
        _context.DangerousRelease();
        return result is NcclResult.Success or NcclResult.InProgress;
    }
}
