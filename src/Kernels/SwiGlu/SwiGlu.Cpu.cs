using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class SwiGlu
{
    private static void ForwardCpu<T>(CpuStream stream, Tensor<T> gateUp, Tensor<T> y)
        where T : unmanaged => stream.For(y.Shape[0], 4, new ForwardJob<T>(gateUp, y));

    private static void BackwardCpu<T>(CpuStream stream, Tensor<T> dy, Tensor<T> gateUp, Tensor<T> dgateUp)
        where T : unmanaged => stream.For(dy.Shape[0], 4, new BackwardJob<T>(dy, gateUp, dgateUp));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> OnePlusExpOfMinus(Vector512<float> gate) => Vector512<float>.One + VectorMath.Exp(-gate);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<float> Gate, Vector512<float> Up) Gradients(Vector512<float> dy, Vector512<float> gate, Vector512<float> up)
    {
        var sigma = Vector512<float>.One / OnePlusExpOfMinus(gate);
        var silu = gate * sigma;
        var slope = Vector512.FusedMultiplyAdd(silu, Vector512<float>.One - sigma, sigma);
        return (dy * up * slope, dy * silu);
    }

    private readonly struct ForwardJob<T>(Tensor<T> gateUp, Tensor<T> y) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var n = (nuint)y.Shape[1];
            for (var t = begin; t < end; t++)
            {
                ref var gate = ref Unsafe.Add(ref gateUp.Origin, (nuint)t * 2 * n);
                ref var up = ref Unsafe.Add(ref gate, n);
                ref var to = ref Unsafe.Add(ref y.Origin, (nuint)t * n);
                nuint c = 0;
                for (; c + Lanes.Count <= n; c += Lanes.Count)
                {
                    var g = Lanes.Load(ref gate, c);
                    Lanes.Store(ref to, c, g / OnePlusExpOfMinus(g) * Lanes.Load(ref up, c));
                }

                if (c < n)
                {
                    var rest = (int)(n - c);
                    var g = Tail.Load(ref gate, c, rest);
                    Tail.Store(ref to, c, rest, g / OnePlusExpOfMinus(g) * Tail.Load(ref up, c, rest));
                }
            }
        }
    }

    private readonly struct BackwardJob<T>(Tensor<T> dy, Tensor<T> gateUp, Tensor<T> dgateUp) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var n = (nuint)dy.Shape[1];
            for (var t = begin; t < end; t++)
            {
                ref var from = ref Unsafe.Add(ref dy.Origin, (nuint)t * n);
                ref var gate = ref Unsafe.Add(ref gateUp.Origin, (nuint)t * 2 * n);
                ref var up = ref Unsafe.Add(ref gate, n);
                ref var dgate = ref Unsafe.Add(ref dgateUp.Origin, (nuint)t * 2 * n);
                ref var dup = ref Unsafe.Add(ref dgate, n);
                nuint c = 0;
                for (; c + Lanes.Count <= n; c += Lanes.Count)
                {
                    var (dg, du) = Gradients(Lanes.Load(ref from, c), Lanes.Load(ref gate, c), Lanes.Load(ref up, c));
                    Lanes.Store(ref dgate, c, dg);
                    Lanes.Store(ref dup, c, du);
                }

                if (c < n)
                {
                    var rest = (int)(n - c);
                    var (dg, du) = Gradients(Tail.Load(ref from, c, rest), Tail.Load(ref gate, c, rest), Tail.Load(ref up, c, rest));
                    Tail.Store(ref dgate, c, rest, dg);
                    Tail.Store(ref dup, c, rest, du);
                }
            }
        }
    }
}
