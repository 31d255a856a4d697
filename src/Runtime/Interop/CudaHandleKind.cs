namespace Z1Coder.Runtime;

/// <summary>What a <see cref="CudaHandle"/> releases.</summary>
internal enum CudaHandleKind
{
    Stream,
    Event,
    Graph,
    Memory,
    Pinned,
    Module,
    NcclCommunicator,
    CublasLt,
    CublasLtMatmulDesc,
    CublasLtMatrixLayout,
    CublasLtPreference,
}
