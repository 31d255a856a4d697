using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>Every device kernel of this assembly with the constants it is launched under: what is compiled ahead of a run, and what the
/// register budget is checked for. A family adds its kernels here by name.</summary>
public static class KernelCatalog
{
    /// <summary>The architectures that kernels are checked for without a GPU: Ampere and Hopper.</summary>
    public static IReadOnlyList<string> Architectures { get; } = ["sm_80", "sm_90a"];

    /// <summary>Those of them that a kernel is written for: device files named "…Hopper" use instructions of sm_90a alone.</summary>
    public static IReadOnlyList<string> ArchitecturesOf(CudaKernel kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        return kernel.Stem.EndsWith("Hopper", StringComparison.Ordinal) ? ["sm_90a"] : Architectures;
    }

    /// <summary>All variants, families in alphabetical order.</summary>
    public static IReadOnlyList<CudaKernel> All { get; } =
    [
        .. AdamW.CudaKernels,
        .. Argmax.CudaKernels,
        .. Attention.CudaKernels,
        .. AttentionHopper.CudaKernels,
        .. Cast.CudaKernels,
        .. CrossEntropy.CudaKernels,
        .. Embedding.CudaKernels,
        .. Fp8.CudaKernels,
        .. GlobalNorm.CudaKernels,
        .. Matmul.BiasCudaKernels,
        .. PartialSums.CudaKernels,
        .. RmsNorm.CudaKernels,
        .. Rope.CudaKernels,
        .. Sample.CudaKernels,
        .. SwiGlu.CudaKernels,
    ];
}
