namespace Z1Coder.Runtime;

/// <summary>A call of cuBLASLt that failed: status, its name, and the call as written.</summary>
public sealed class CublasLtException : Exception
{
    /// <summary>Names status and call; the message carries all of it.</summary>
    /// <param name="status">cublasStatus_t</param>
    /// <param name="expression">the call, as written in the source</param>
    /// <param name="detail">what was being computed, or empty</param>
    public CublasLtException(int status, string expression, string detail = "")
        : base($"{expression} failed with {NameOf(status)} ({status}): {TextOf(status)}{(detail.Length == 0 ? "" : $"; {detail}")}")
    {
        Status = status;
        Expression = expression;
    }

    /// <summary>cublasStatus_t.</summary>
    public int Status { get; }

    /// <summary>CUBLAS_STATUS_NOT_SUPPORTED, say.</summary>
    public string Name => NameOf(Status);

    /// <summary>The call, as written in the source.</summary>
    public string Expression { get; }

    // cublasGetStatusName lives in libcublas, which is not loaded
    private static string NameOf(int status) => (CublasStatus)status switch
    {
        CublasStatus.Success => "CUBLAS_STATUS_SUCCESS",
        CublasStatus.NotInitialized => "CUBLAS_STATUS_NOT_INITIALIZED",
        CublasStatus.AllocFailed => "CUBLAS_STATUS_ALLOC_FAILED",
        CublasStatus.InvalidValue => "CUBLAS_STATUS_INVALID_VALUE",
        CublasStatus.ArchMismatch => "CUBLAS_STATUS_ARCH_MISMATCH",
        CublasStatus.MappingError => "CUBLAS_STATUS_MAPPING_ERROR",
        CublasStatus.ExecutionFailed => "CUBLAS_STATUS_EXECUTION_FAILED",
        CublasStatus.InternalError => "CUBLAS_STATUS_INTERNAL_ERROR",
        CublasStatus.NotSupported => "CUBLAS_STATUS_NOT_SUPPORTED",
        CublasStatus.LicenseError => "CUBLAS_STATUS_LICENSE_ERROR",
        _ => "unknown status",
    };

    private static string TextOf(int status) => (CublasStatus)status switch
    {
        CublasStatus.NotInitialized => "the handle was not made, or the device cannot be used",
        CublasStatus.AllocFailed => "out of memory",
        CublasStatus.InvalidValue => "an argument is wrong",
        CublasStatus.ArchMismatch => "the device lacks what the call needs",
        CublasStatus.ExecutionFailed => "the device failed",
        CublasStatus.NotSupported => "no algorithm for these types, layouts and alignments",
        _ => "see cublasStatus_t",
    };
}
