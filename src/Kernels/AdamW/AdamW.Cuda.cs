using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class AdamW
{
    private const int Threads = 256, PerThread = 8;

    private static readonly CudaKernel s_step = new(NativeSources.Of("AdamW"), "adamw_step");

    internal static CudaKernel[] CudaKernels => [s_step];

    private static void StepCuda<T>(
        CudaStream stream, Tensor<float> gradient, Tensor<float> master, Tensor<float> m, Tensor<float> v, Tensor<T> weight, in Factors factors,
        long firstElement)
        where T : unmanaged
    {
        Expect.BFloat16<T>("AdamW.Step");
        var p = new StepParams
        {
            Gradient = Expect.On(stream, gradient), Master = Expect.On(stream, master), M = Expect.On(stream, m), V = Expect.On(stream, v),
            Weight = (BFloat16*)Expect.On(stream, weight), Count = gradient.Count, FirstElement = firstElement, Key = factors.Key, GradientScale = factors.Gradient,
            Keep = factors.Keep, OneMinusBeta1 = factors.OneMinusBeta1, Beta2 = factors.Beta2, OneMinusBeta2 = factors.OneMinusBeta2,
            MinusRate = factors.MinusRate, RootScale = factors.RootScale, Epsilon = factors.Epsilon,
            Stochastic = factors.Stochastic ? 1 : 0,
        };
        Expect.That(
            ((nuint)p.Gradient | (nuint)p.Master | (nuint)p.M | (nuint)p.V | (nuint)p.Weight) % 16 == 0,
            "gradient, master, m, v and weight must start at multiples of 16 bytes");
        if (p.Count > 0)
        {
            var threads = (p.Count / PerThread) + (p.Count % PerThread);
            stream.Launch(s_step, new CudaGrid(checked((int)((threads + Threads - 1) / Threads))), Threads, p);
        }
    }

    private struct StepParams
    {
        public float* Gradient, Master, M, V;
        public BFloat16* Weight;
        public long Count, FirstElement;
        public ulong Key;
        public float GradientScale, Keep, OneMinusBeta1, Beta2, OneMinusBeta2, MinusRate, RootScale, Epsilon;
        public int Stochastic;
    }
}
