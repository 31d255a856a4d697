using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>Zeroes a tensor: every byte becomes 0.</summary>
public static class Zero
{
    private const int Chunk = 1 << 16;

    /// <summary>Writes 0 to every element; on a CPU with all workers, because an embedding gradient has hundreds of megabytes.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="tensor">any shape, overwritten</param>
    public static void Fill<T>(ComputeStream stream, Tensor<T> tensor)
        where T : unmanaged
    {
        if (stream is CpuStream cpu)
        {
            cpu.For(checked((int)((tensor.Count + Chunk - 1) / Chunk)), 1, new Job<T>(tensor));
        }
        else if (stream is CudaStream cuda)
        {
            cuda.Fill(tensor, 0);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    private readonly struct Job<T>(Tensor<T> tensor) : ICpuJob
        where T : unmanaged
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
