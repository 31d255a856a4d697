using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>A named part of the step for NVTX and traces; nothing on a CPU.</summary>
internal static class StreamRange
{
    public static CudaRange Of(ComputeStream stream, string name) => stream is CudaStream cuda ? cuda.Range(name) : default;
}
