using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>Every device kernel of this assembly with the constants it is launched under: what is compiled ahead of a run, and what the
/// register budget is checked for. A family adds its kernels here by name.</summary>
public static class KernelCatalog
{
    /// <summary>All variants, families in alphabetical order.</summary>
    public static IReadOnlyList<CudaKernel> All { get; } =
    [
        .. AdamW.CudaKernels,
        .. Argmax.CudaKernels,
        .. Cast.CudaKernels,
        .. CrossEntropy.CudaKernels,
        .. Embedding.CudaKernels,
        .. Fp8.CudaKernels,
        .. GlobalNorm.CudaKernels,
        .. Matmul.BiasCudaKernels,
        .. PartialSums.CudaKernels,
        .. RmsNorm.CudaKernels,
        .. Rope.CudaKernels,
        .. SwiGlu.CudaKernels,
    ];
}
