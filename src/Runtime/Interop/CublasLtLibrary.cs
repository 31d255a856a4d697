namespace Z1Coder.Runtime;

/// <summary>A handle on cuBLASLt for one device. The library keeps its kernels per handle, so one serves a whole stream.</summary>
internal sealed unsafe class CublasLtLibrary : IDisposable
{
    private readonly CudaHandle _handle;

    /// <summary>Opens the library for the device of <paramref name="context"/>, which must be current.</summary>
    public CublasLtLibrary(CudaContext context)
    {
        Context = context;
        nint made;
        CublasLt.Check(CublasLt.cublasLtCreate(&made));
        _handle = new CudaHandle(context, made, CudaHandleKind.CublasLt);
    }

    /// <summary>The context whose device it serves.</summary>
    public CudaContext Context { get; }

    /// <summary>cublasLtHandle_t.</summary>
    public nint Value => _handle.Value;

    /// <summary>120103 for 12.1.3, say.</summary>
    public static long Version => (long)CublasLt.cublasLtGetVersion();

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}
