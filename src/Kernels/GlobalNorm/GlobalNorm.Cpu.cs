using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class GlobalNorm
{
    private const int Chunk = 1 << 16;

    private static double AddSquaresCpu(CpuStream stream, Tensor<float> gradient, double sum)
    {
        var chunks = checked((int)((gradient.Count + Chunk - 1) / Chunk));
        if (chunks == 0)
        {
            return sum;
        }

        var partial = Scratch.Of<double>(stream, chunks);
        stream.For(chunks, 1, new Job(gradient, Chunk, partial));
        foreach (var part in partial.Span)
        {
            sum += part;
        }

        return sum;
    }

    private static void ChunkSumsCpu(CpuStream stream, Tensor<float> x, int chunk, Tensor<double> sums) =>
        stream.For((int)sums.Count, Math.Max(1, Chunk / chunk), new Job(x, chunk, sums));

    private readonly struct Job(Tensor<float> gradient, int size, Tensor<double> partial) : ICpuJob
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var sums = partial.Span;
            for (var chunk = begin; chunk < end; chunk++)
            {
                sums[chunk] = SumOfSquares(Chunks.Of(gradient, chunk, size));
            }
        }

        private static double SumOfSquares(ReadOnlySpan<float> span)
        {
            ref var x = ref MemoryMarshal.GetReference(span);
            var (s0, s1, s2, s3) = (Vector512<double>.Zero, Vector512<double>.Zero, Vector512<double>.Zero, Vector512<double>.Zero);
            var n = (nuint)span.Length;
            nuint i = 0;
            for (; i + (2 * Lanes.Count) <= n; i += 2 * Lanes.Count)
            {
                var (a, b) = Vector512.Widen(Lanes.Load(ref x, i));
                var (c, d) = Vector512.Widen(Lanes.Load(ref x, i + Lanes.Count));
                s0 = Vector512.FusedMultiplyAdd(a, a, s0);
                s1 = Vector512.FusedMultiplyAdd(b, b, s1);
                s2 = Vector512.FusedMultiplyAdd(c, c, s2);
                s3 = Vector512.FusedMultiplyAdd(d, d, s3);
            }

            var sum = VectorMath.Sum((s0 + s1) + (s2 + s3));
            for (; i < n; i++)
            {
                var value = (double)span[(int)i];
                sum += value * value;
            }

            return sum;
        }
    }
}
