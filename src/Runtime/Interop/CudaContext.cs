using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>One reference on the primary context of a device. Lives until its last stream, event, graph, buffer and module is gone.</summary>
internal sealed unsafe class CudaContext : SafeHandle
{
    [ThreadStatic]
    private static CudaContext? t_current;

    private readonly int _device;
    private int _live;

    private CudaContext(int device, nint value)
        : base(0, ownsHandle: true)
    {
        _device = device;
        SetHandle(value);
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>The CUcontext. Also valid while children release themselves after Dispose.</summary>
    public nint Value => handle;

    /// <summary>Children that exist. Modules are not counted: they live as long as the device.</summary>
    public int Live => Volatile.Read(ref _live);

    public static CudaContext Retain(int device)
    {
        nint value;
        Cuda.Check(Cuda.cuDevicePrimaryCtxRetain(&value, device));
        return new(device, value);
    }

    /// <summary>Makes this the context of the calling thread; costs one comparison when it is already.</summary>
    public void MakeCurrent()
    {
        if (!ReferenceEquals(t_current, this))
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            Cuda.Check(Cuda.cuCtxSetCurrent(handle));
            t_current = this;
        }
    }

    public void Count(CudaHandleKind kind, int change)
    {
        if (kind != CudaHandleKind.Module)
        {
            Interlocked.Add(ref _live, change);
        }
    }

    protected override bool ReleaseHandle() => Cuda.cuDevicePrimaryCtxRelease_v2(_device) == Cuda.Success;
}
