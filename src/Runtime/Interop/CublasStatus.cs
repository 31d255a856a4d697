namespace Z1Coder.Runtime;

/// <summary>Values of cublasStatus_t; the same in CUDA 12 and 13.</summary>
internal enum CublasStatus
{
    Success = 0,             // CUBLAS_STATUS_SUCCESS
    NotInitialized = 1,      // CUBLAS_STATUS_NOT_INITIALIZED
    AllocFailed = 3,         // CUBLAS_STATUS_ALLOC_FAILED
    InvalidValue = 7,        // CUBLAS_STATUS_INVALID_VALUE
    ArchMismatch = 8,        // CUBLAS_STATUS_ARCH_MISMATCH
    MappingError = 11,       // CUBLAS_STATUS_MAPPING_ERROR
    ExecutionFailed = 13,    // CUBLAS_STATUS_EXECUTION_FAILED
    InternalError = 14,      // CUBLAS_STATUS_INTERNAL_ERROR
    NotSupported = 15,       // CUBLAS_STATUS_NOT_SUPPORTED
    LicenseError = 16,       // CUBLAS_STATUS_LICENSE_ERROR
}
