namespace Z1Coder.Kernels;

/// <summary>Which code computes matrix products on the CPU.</summary>
public enum MatmulBackend
{
    /// <summary>The quickest that is present, by size.</summary>
    Auto,

    /// <summary>oneDNN for every size; an error where it is absent.</summary>
    OneDnn,

    /// <summary>The managed GEMM for every size: always present, fp32 arithmetic.</summary>
    Managed,

    /// <summary>The managed kernel for few rows, which reads the weights once (Forward only; the other products run as Managed).</summary>
    FewRows,
}
