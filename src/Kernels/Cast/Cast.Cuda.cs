using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Cast
{
    private const int Threads = 256, PerThread = 8;

    private static readonly CudaKernel s_round = new(NativeSources.Of("Cast"), "cast_round");
    private static readonly CudaKernel s_widen = new(NativeSources.Of("Cast"), "cast_widen");

    private static readonly CudaKernel s_add = new(NativeSources.Of("Cast"), "cast_add");
    private static readonly CudaKernel s_addWide = new(NativeSources.Of("Cast"), "cast_add_wide");

    internal static CudaKernel[] CudaKernels => [s_round, s_widen, s_add, s_addWide];

    private static void RoundCuda<T>(CudaStream stream, Tensor<float> from, Tensor<T> to, ulong key, bool stochastic, long firstElement)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            stream.Copy(from, to.As<float>());
            return;
        }

        Expect.BFloat16<T>("Cast.Round");
        Launch(stream, s_round, new Params
        {
            Wide = Expect.On(stream, from), Narrow = (BFloat16*)Expect.On(stream, to), Count = from.Count, Key = key,
            FirstElement = firstElement, Stochastic = stochastic ? 1 : 0,
        });
    }

    private static void WidenCuda<T>(CudaStream stream, Tensor<T> from, Tensor<float> to, bool add)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float) && !add)
        {
            stream.Copy(from.As<float>(), to);
            return;
        }

        if (typeof(T) == typeof(float))
        {
            Launch(stream, s_addWide, new Params { Wide = Expect.On(stream, to), Added = Expect.On(stream, from.As<float>()), Count = from.Count });
            return;
        }

        Expect.BFloat16<T>("Cast.Widen");
        Launch(stream, add ? s_add : s_widen, new Params
        {
            Wide = Expect.On(stream, to), Narrow = (BFloat16*)Expect.On(stream, from), Count = from.Count,
        });
    }

    private static void Launch(CudaStream stream, CudaKernel kernel, in Params p)
    {
        Expect.That(((nuint)p.Wide | (nuint)p.Narrow | (nuint)p.Added) % 16 == 0, "from and to must start at multiples of 16 bytes");
        if (p.Count > 0)
        {
            var threads = (p.Count / PerThread) + (p.Count % PerThread);
            stream.Launch(kernel, new CudaGrid(checked((int)((threads + Threads - 1) / Threads))), Threads, p);
        }
    }

    private struct Params
    {
        public float* Wide;
        public BFloat16* Narrow;
        public float* Added;
        public long Count, FirstElement;
        public ulong Key;
        public int Stochastic;
    }
}
