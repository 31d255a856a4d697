using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Matmul
{
    private static void BackwardBiasCpu<T>(CpuStream stream, Tensor<T> dy, Tensor<float> dbias, int m, int n, bool accumulate)
        where T : unmanaged
    {
        if (n > 0)
        {
            var blocks = (n + BiasJob<T>.Width - 1) / BiasJob<T>.Width;
            var grain = (int)Math.Max(1, 32768L / Math.Max(1, (long)m * BiasJob<T>.Width));
            stream.For(blocks, grain, new BiasJob<T>(m == 0 ? null : dy.Pointer, dbias.Pointer, m, n, accumulate));
        }
    }

    /// <summary>An item is 64 columns; each column is one chain of additions in row order.</summary>
    private readonly struct BiasJob<T>(T* dy, float* dbias, int m, int n, bool accumulate) : ICpuJob
        where T : unmanaged
    {
        public const int Width = 4 * Lanes.Count;

        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            for (var block = begin; block < end; block++)
            {
                var column = block * Width;
                if (column + Width <= n)
                {
                    Whole(column);
                }
                else
                {
                    Rest(column);
                }
            }
        }

        private void Whole(int column)
        {
            var (s0, s1, s2, s3) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            var row = dy + column;
            for (var i = 0; i < m; i++, row += n)
            {
                s0 += Lanes.Load(ref *row, 0);
                s1 += Lanes.Load(ref *row, 16);
                s2 += Lanes.Load(ref *row, 32);
                s3 += Lanes.Load(ref *row, 48);
            }

            var output = dbias + column;
            if (accumulate)
            {
                s0 += Vector512.Load(output);
                s1 += Vector512.Load(output + 16);
                s2 += Vector512.Load(output + 32);
                s3 += Vector512.Load(output + 48);
            }

            s0.Store(output);
            s1.Store(output + 16);
            s2.Store(output + 32);
            s3.Store(output + 48);
        }

        private void Rest(int column)
        {
            for (; column < n; column++)
            {
                var sum = 0f;
                for (long i = 0; i < m; i++)
                {
                    sum += Lanes.Get(ref dy[(i * n) + column], 0);
                }

                dbias[column] = accumulate ? sum + dbias[column] : sum;
            }
        }
    }
}
