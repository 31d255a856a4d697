namespace Z1Coder.Runtime;

/// <summary>Element types of matrices: the values of cudaDataType_t in use, the same in CUDA 12 and 13.</summary>
internal enum CublasLtType
{
    Float32 = 0,      // CUDA_R_32F
    BFloat16 = 14,    // CUDA_R_16BF
    E4M3 = 28,        // CUDA_R_8F_E4M3
    E5M2 = 29,        // CUDA_R_8F_E5M2
}
