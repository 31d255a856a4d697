namespace Z1Coder.Runtime;

/// <summary>cublasLtMatmulHeuristicResult_t, 96 bytes.</summary>
internal unsafe struct CublasLtHeuristic
{
    public CublasLtAlgorithm Algorithm;
    public nuint WorkspaceSize;
    public CublasStatus State;
    public float WavesCount;
    private fixed int _reserved[4];
}
