using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Argmax
{
    private const int Threads = 512, SharedBytes = 128;

    private static readonly CudaKernel s_forward = new(NativeSources.Of("Argmax"), "argmax_forward");

    internal static CudaKernel[] CudaKernels => [s_forward];

    private static void ForwardCuda<T>(CudaStream stream, Tensor<T> x, Tensor<int> index)
        where T : unmanaged
    {
        Expect.BFloat16<T>("Argmax.Forward");
        var p = new Params { X = (BFloat16*)Expect.On(stream, x), Index = Expect.On(stream, index), Columns = x.Shape[1] };
        if (x.Shape[0] > 0)
        {
            stream.Launch(s_forward, new CudaGrid(x.Shape[0]), Threads, p, SharedBytes);
        }
    }

    private struct Params
    {
        public BFloat16* X;
        public int* Index;
        public int Columns;
    }
}
