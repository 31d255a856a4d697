using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Cast
{
    private const int Chunk = 1 << 14;

    private static void RoundCpu<T>(CpuStream stream, Tensor<float> from, Tensor<T> to, ulong key, bool stochastic, long firstElement)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float) || !stochastic)
        {
            stream.For(ChunksOf(from.Count), 1, new Job<float, T>(from, to));
        }
        else
        {
            stream.For(ChunksOf(from.Count), 1, new StochasticJob<T>(from, to, key, firstElement));
        }
    }

    private static void WidenCpu<T>(CpuStream stream, Tensor<T> from, Tensor<float> to, bool add)
        where T : unmanaged
    {
        if (add)
        {
            stream.For(ChunksOf(from.Count), 1, new AddJob<T>(from, to));
        }
        else
        {
            stream.For(ChunksOf(from.Count), 1, new Job<T, float>(from, to));
        }
    }

    private static int ChunksOf(long count) => checked((int)((count + Chunk - 1) / Chunk));

    private readonly struct Job<TFrom, TTo>(Tensor<TFrom> from, Tensor<TTo> to) : ICpuJob
        where TFrom : unmanaged
        where TTo : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var i = (nuint)begin * Chunk;
            var n = (nuint)Math.Min((long)end * Chunk, from.Count);
            ref var source = ref from.Origin;
            ref var target = ref to.Origin;
            for (; i + Lanes.Count <= n; i += Lanes.Count)
            {
                Lanes.Store(ref target, i, Lanes.Load(ref source, i));
            }

            for (; i < n; i++)
            {
                Lanes.Set(ref target, i, Lanes.Get(ref source, i));
            }
        }
    }

    private readonly struct AddJob<T>(Tensor<T> from, Tensor<float> to) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var i = (nuint)begin * Chunk;
            var n = (nuint)Math.Min((long)end * Chunk, from.Count);
            ref var source = ref from.Origin;
            ref var target = ref to.Origin;
            for (; i + Lanes.Count <= n; i += Lanes.Count)
            {
                Lanes.Store(ref target, i, Lanes.Load(ref target, i) + Lanes.Load(ref source, i));
            }

            for (; i < n; i++)
            {
                Lanes.Set(ref target, i, Lanes.Get(ref target, i) + Lanes.Get(ref source, i));
            }
        }
    }

    private readonly struct StochasticJob<T>(Tensor<float> from, Tensor<T> to, ulong key, long firstElement) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var i = (nuint)begin * Chunk;
            var n = (nuint)Math.Min((long)end * Chunk, from.Count);
            ref var source = ref from.Origin;
            ref var target = ref to.Origin;
            for (; i + Lanes.Count <= n; i += Lanes.Count)
            {
                Lanes.Store(ref target, i, StochasticRounding.Round(Lanes.Load(ref source, i), key, (nuint)firstElement + i));
            }

            if (i < n)
            {
                var rest = (int)(n - i);
                Tail.Store(ref target, i, rest, StochasticRounding.Round(Tail.Load(ref source, i, rest), key, (nuint)firstElement + i));
            }
        }
    }
}
