namespace Z1Coder.Runtime;

/// <summary>How the partial sums of a split K come together: cublasLtReductionScheme_t, the same in CUDA 12 and 13.</summary>
[Flags]
internal enum CublasLtReduction
{
    /// <summary>CUBLASLT_REDUCTION_SCHEME_NONE: K is not split.</summary>
    None = 0,

    /// <summary>CUBLASLT_REDUCTION_SCHEME_INPLACE: blocks add to the output as they come, in the output's type.</summary>
    InPlace = 1,

    /// <summary>CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE: fp32 parts in the workspace, added in a second pass in a fixed order.</summary>
    ComputeType = 2,

    /// <summary>CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE: parts in the workspace, each rounded to the output's type.</summary>
    OutputType = 4,
}
