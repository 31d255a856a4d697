using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Embedding
{
    private static void ForwardCpu<T>(CpuStream stream, Tensor<int> tokens, Tensor<T> weight, Tensor<T> y)
        where T : unmanaged => stream.For(tokens.Shape[0], 16, new ForwardJob<T>(tokens, weight, y));

    private static void BackwardCpu<T>(CpuStream stream, Tensor<int> tokens, Tensor<T> dy, Tensor<float> dweight, bool accumulate)
        where T : unmanaged
    {
        var hidden = dy.Shape[1];
        if (!accumulate)
        {
            Zero.Fill(stream, dweight);
        }

        // Each worker takes columns and walks all tokens in order, so no two write the same element.
        var stripe = Math.Max(64, (hidden / stream.Workers + 63) / 64 * 64);
        stream.For((hidden + stripe - 1) / stripe, 1, new BackwardJob<T>(tokens, dy, dweight, stripe));
    }

    private readonly struct ForwardJob<T>(Tensor<int> tokens, Tensor<T> weight, Tensor<T> y) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            var ids = tokens.Span;
            for (var t = begin; t < end; t++)
            {
                weight.Row(ids[t]).CopyTo(y.Row(t));
            }
        }
    }

    private readonly struct BackwardJob<T>(Tensor<int> tokens, Tensor<T> dy, Tensor<float> dweight, int stripe) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            var ids = tokens.Span;
            var hidden = dy.Shape[1];
            var first = begin * stripe;
            var count = Math.Min(end * stripe, hidden) - first;
            for (var t = 0; t < ids.Length; t++)
            {
                ref var source = ref Unsafe.Add(ref dy.Origin, ((nint)t * hidden) + first);
                ref var target = ref Unsafe.Add(ref dweight.Origin, ((nint)ids[t] * hidden) + first);
                nuint c = 0;
                for (; c + Lanes.Count <= (nuint)count; c += Lanes.Count)
                {
                    Lanes.Store(ref target, c, Lanes.Load(ref target, c) + Lanes.Load(ref source, c));
                }

                for (; c < (nuint)count; c++)
                {
                    Unsafe.Add(ref target, c) += Lanes.Get(ref source, c);
                }
            }
        }
    }
}
