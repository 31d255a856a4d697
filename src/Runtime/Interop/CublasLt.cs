using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// The functions of cuBLASLt in use, under their own names. Opaque types are pointers; the values of every enumeration used here are the
/// same in libcublasLt.so.12 and .so.13. Which file answers to the name is decided by <see cref="NativeLibraries"/>.
/// </summary>
internal static unsafe partial class CublasLt
{
    private const string Library = "cublasLt";

    [LibraryImport(Library)]
    public static partial nuint cublasLtGetVersion();

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtCreate(nint* lightHandle);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtDestroy(nint lightHandle);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmulDescCreate(nint* matmulDesc, int computeType, CublasLtType scaleType);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmulDescDestroy(nint matmulDesc);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmulDescSetAttribute(nint matmulDesc, int attr, void* buf, nuint sizeInBytes);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatrixLayoutCreate(nint* matLayout, CublasLtType type, ulong rows, ulong cols, long ld);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatrixLayoutDestroy(nint matLayout);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmulPreferenceCreate(nint* pref);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmulPreferenceDestroy(nint pref);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmulPreferenceSetAttribute(nint pref, int attr, void* buf, nuint sizeInBytes);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmulAlgoGetHeuristic(
        nint lightHandle,
        nint operationDesc,
        nint adesc,
        nint bdesc,
        nint cdesc,
        nint ddesc,
        nint preference,
        int requestedAlgoCount,
        CublasLtHeuristic* heuristicResultsArray,
        int* returnAlgoCount);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmulAlgoCheck(
        nint lightHandle,
        nint operationDesc,
        nint adesc,
        nint bdesc,
        nint cdesc,
        nint ddesc,
        CublasLtAlgorithm* algo,
        CublasLtHeuristic* result);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmulAlgoConfigGetAttribute(
        CublasLtAlgorithm* algo, int attr, void* buf, nuint sizeInBytes, nuint* sizeWritten);

    [LibraryImport(Library)]
    public static partial CublasStatus cublasLtMatmul(
        nint lightHandle,
        nint computeDesc,
        void* alpha,
        void* a,
        nint adesc,
        void* b,
        nint bdesc,
        void* beta,
        void* c,
        nint cdesc,
        void* d,
        nint ddesc,
        CublasLtAlgorithm* algo,
        void* workspace,
        nuint workspaceSizeInBytes,
        nint stream);

    /// <summary>Throws what a failed call says about itself.</summary>
    public static void Check(CublasStatus status, [CallerArgumentExpression(nameof(status))] string expression = "")
    {
        if (status != CublasStatus.Success)
        {
            Fail(status, expression);
        }
    }

    [DoesNotReturn]
    private static void Fail(CublasStatus status, string expression) => throw new CublasLtException((int)status, expression);
}
