using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Embedding
{
    private const int Threads = 128;
    private const int ListBytes = (4 * 8 * Threads) + (4 * 8 * Threads / 32);      // BackwardShared of Embedding.cu

    private static readonly CudaKernel s_forward = new(NativeSources.Of("Embedding"), "embedding_forward");
    private static readonly CudaKernel s_backward = new(NativeSources.Of("Embedding"), "embedding_backward");

    internal static CudaKernel[] CudaKernels => [s_forward, s_backward];

    /// <summary>y[t] = weight[tokens[t]]; also the gather of rows that <see cref="CrossEntropy"/> needs.</summary>
    internal static void ForwardCuda<T>(CudaStream stream, Tensor<int> tokens, Tensor<T> weight, Tensor<T> y)
        where T : unmanaged
    {
        Expect.BFloat16<T>("Embedding.Forward");
        var p = new ForwardParams
        {
            Tokens = Expect.On(stream, tokens), Weight = (BFloat16*)Expect.On(stream, weight), Y = (BFloat16*)Expect.On(stream, y),
            Columns = y.Shape[1],
        };
        if (y.Count > 0)
        {
            stream.Launch(s_forward, new CudaGrid(tokens.Shape[0]), Threads, p);
        }
    }

    private static void BackwardCuda<T>(CudaStream stream, Tensor<int> tokens, Tensor<T> dy, Tensor<float> dweight, bool accumulate)
        where T : unmanaged
    {
        Expect.BFloat16<T>("Embedding.Backward");
        var (count, columns) = (dy.Shape[0], dy.Shape[1]);
        var p = new BackwardParams
        {
            Tokens = Expect.On(stream, tokens), Dy = (BFloat16*)Expect.On(stream, dy), Dweight = Expect.On(stream, dweight), Count = count,
            Columns = columns,
        };
        if (!accumulate)
        {
            stream.Fill(dweight, 0);
        }

        if (dy.Count > 0)
        {
            stream.Launch(s_backward, new CudaGrid(count), Threads, p, ListBytes + (sizeof(float) * columns));
        }
    }

    private struct ForwardParams
    {
        public int* Tokens;
        public BFloat16* Weight, Y;
        public int Columns;
    }

    private struct BackwardParams
    {
        public int* Tokens;
        public BFloat16* Dy;
        public float* Dweight;
        public int Count, Columns;
    }
}
