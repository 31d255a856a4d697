// Launches of the paged kernels of native/kernels/Attention.cu.
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Attention
{
    /// <summary>Splits of the keys of one row of a decode pass of <see cref="Paged"/> at most; how many there are depends on the row's position
    /// alone.</summary>
    internal const int PagedSplits = 16;

    private static void PagedCuda(
        CudaStream stream, Tensor<BFloat16> q, Tensor<BFloat16> kPages, Tensor<BFloat16> vPages, Tensor<int> pageTable, Tensor<BFloat16> o,
        AttentionWorkspace workspace) => throw new NotSupportedException("Attention.Paged has no device code yet");
}
