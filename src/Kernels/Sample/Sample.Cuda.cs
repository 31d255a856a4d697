using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Sample
{
    private const int Threads = 512, SharedBytes = 512;

    private static readonly CudaKernel s_forward = new(NativeSources.Of("Sample"), "sample_forward");

    internal static CudaKernel[] CudaKernels => [s_forward];

    private static void ForwardCuda<T>(
        CudaStream stream, Tensor<T> logits, Tensor<float> temperature, Tensor<float> topP, Tensor<int> topK, Tensor<ulong> seed, Tensor<int> counter,
        Tensor<int> token)
        where T : unmanaged
    {
        Expect.BFloat16<T>("Sample.Forward");
        var p = new Params
        {
            Logits = (BFloat16*)Expect.On(stream, logits),
            Temperature = Expect.On(stream, temperature),
            TopP = Expect.On(stream, topP),
            TopK = Expect.On(stream, topK),
            Seed = Expect.On(stream, seed),
            Counter = Expect.On(stream, counter),
            Token = Expect.On(stream, token),
            Columns = logits.Shape[1],
            Scale = ScaleOf(logits.Shape[1]),
        };
        if (logits.Shape[0] > 0)
        {
            stream.Launch(s_forward, new CudaGrid(logits.Shape[0]), Threads, p, SharedBytes);
        }
    }

    private struct Params
    {
        public BFloat16* Logits;
        public float* Temperature;
        public float* TopP;
        public int* TopK;
        public ulong* Seed;
        public int* Counter;
        public int* Token;
        public int Columns;
        public int Scale;
    }
}
