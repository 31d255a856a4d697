using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>Zeroes a tensor with all workers: an embedding gradient has hundreds of megabytes.</summary>
internal static class Zero
{
    private const int Chunk = 1 << 16;

    public static void Fill(CpuStream stream, Tensor<float> tensor) =>
        stream.For(checked((int)((tensor.Count + Chunk - 1) / Chunk)), 1, new Job(tensor));

    private readonly struct Job(Tensor<float> tensor) : ICpuJob
    {
        public void Run(int begin, int end, int worker)
        {
            for (var chunk = begin; chunk < end; chunk++)
            {
                Chunks.Of(tensor, chunk, Chunk).Clear();
            }
        }
    }
}
