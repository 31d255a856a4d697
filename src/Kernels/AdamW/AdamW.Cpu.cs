using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class AdamW
{
    private const int Chunk = 1 << 14;

    private static void StepCpu<T>(
        CpuStream stream, Tensor<float> gradient, Tensor<float> master, Tensor<float> m, Tensor<float> v, Tensor<T> weight, in Factors factors,
        long firstElement)
        where T : unmanaged =>
        stream.For(
            checked((int)((gradient.Count + Chunk - 1) / Chunk)), 1, new Job<T>(gradient, master, m, v, weight, factors, firstElement));

    private readonly struct Job<T>(
        Tensor<float> gradient, Tensor<float> master, Tensor<float> m, Tensor<float> v, Tensor<T> weight, Factors factors, long firstElement) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var first = (nint)begin * Chunk;
            var n = (nuint)(Math.Min((long)end * Chunk, gradient.Count) - first);
            ref var g0 = ref Unsafe.Add(ref gradient.Origin, first);
            ref var p0 = ref Unsafe.Add(ref master.Origin, first);
            ref var m0 = ref Unsafe.Add(ref m.Origin, first);
            ref var v0 = ref Unsafe.Add(ref v.Origin, first);
            ref var w0 = ref Unsafe.Add(ref weight.Origin, first);
            var moves = factors.MinusRate != 0;
            nuint i = 0;
            for (; i + Lanes.Count <= n; i += Lanes.Count)
            {
                var (p, m, v) = Update(Lanes.Load(ref g0, i), Lanes.Load(ref p0, i), Lanes.Load(ref m0, i), Lanes.Load(ref v0, i), factors, moves);
                Lanes.Store(ref m0, i, m);
                Lanes.Store(ref v0, i, v);
                Lanes.Store(ref p0, i, p);
                Lanes.Store(ref w0, i, p);
            }

            if (i < n)
            {
                var rest = (int)(n - i);
                var (p, m, v) = Update(
                    Tail.Load(ref g0, i, rest), Tail.Load(ref p0, i, rest), Tail.Load(ref m0, i, rest), Tail.Load(ref v0, i, rest), factors, moves);
                Tail.Store(ref m0, i, rest, m);
                Tail.Store(ref v0, i, rest, v);
                Tail.Store(ref p0, i, rest, p);
                Tail.Store(ref w0, i, rest, p);
            }

            if (factors.Stochastic && typeof(T) != typeof(float))
            {
                RoundAgain(ref p0, ref w0, (nuint)(firstElement + first), n);
            }
        }

        /// <summary>The weights of a chunk that is still in the cache, rounded at random instead: the loop above stays free of calls.</summary>
        private void RoundAgain(ref float p0, ref T w0, nuint first, nuint n)
        {
            nuint i = 0;
            for (; i + Lanes.Count <= n; i += Lanes.Count)
            {
                Lanes.Store(ref w0, i, StochasticRounding.Round(Lanes.Load(ref p0, i), factors.Key, first + i));
            }

            if (i < n)
            {
                var rest = (int)(n - i);
                Tail.Store(ref w0, i, rest, StochasticRounding.Round(Tail.Load(ref p0, i, rest), factors.Key, first + i));
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static (Vector512<float> P, Vector512<float> M, Vector512<float> V) Update(
            Vector512<float> g, Vector512<float> p, Vector512<float> m, Vector512<float> v, in Factors factors, bool moves)
        {
            g *= Vector512.Create(factors.Gradient);
            m = Vector512.FusedMultiplyAdd(Vector512.Create(factors.OneMinusBeta1), g - m, m);
            v = Vector512.FusedMultiplyAdd(g * Vector512.Create(factors.OneMinusBeta2), g, v * Vector512.Create(factors.Beta2));
            if (moves)
            {
                var root = Vector512.FusedMultiplyAdd(Vector512.Sqrt(v), Vector512.Create(factors.RootScale), Vector512.Create(factors.Epsilon));
                p = Vector512.FusedMultiplyAdd(Vector512.Create(factors.MinusRate), m / root, p * Vector512.Create(factors.Keep));
            }

            return (p, m, v);
        }
    }
}
