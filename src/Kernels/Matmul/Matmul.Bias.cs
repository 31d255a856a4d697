using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Matmul
{
    private static void BackwardBiasCpu<T>(CpuStream stream, Tensor<T> dy, Tensor<float> dbias, int m, int n, bool accumulate)
        where T : unmanaged
    {
        var stripes = (n + Lanes.Count - 1) / Lanes.Count;
        var share = (stripes + stream.Workers - 1) / stream.Workers;
        var least = 32768L / Math.Max(1, (long)m * Lanes.Count);               // stripes worth a worker's start
        var grain = (int)Math.Min(BiasJob<T>.Most, Math.Max(share, least));
        stream.For(stripes, grain, new BiasJob<T>(m == 0 ? null : dy.Pointer, dbias.Pointer, m, n, accumulate));
    }

    /// <summary>
    /// An item is a stripe of 16 columns; each column is one chain of additions in row order. Stripes side by side are read together, a row of theirs at
    /// a time, four rows to one visit of the sums: a narrow column alone would touch a cache line per row and wait for each.
    /// </summary>
    private readonly struct BiasJob<T>(T* dy, float* dbias, int m, int n, bool accumulate) : ICpuJob
        where T : unmanaged
    {
        public const int Most = 64;                     // stripes at once: their sums take 4 KiB of the first-level cache

        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var (column, width) = (begin * Lanes.Count, Math.Min(end * Lanes.Count, n) - (begin * Lanes.Count));
            var sums = stackalloc float[Most * Lanes.Count];
            new Span<float>(sums, width).Clear();
            var row = dy + column;
            var i = 0;
            for (; i + 4 <= m; i += 4, row += 4L * n)
            {
                AddFour(row, width, sums);
            }

            for (; i < m; i++, row += n)
            {
                AddOne(row, width, sums);
            }

            for (var c = 0; c < width; c++)
            {
                dbias[column + c] = accumulate ? sums[c] + dbias[column + c] : sums[c];
            }
        }

        private void AddFour(T* row, int width, float* sums)
        {
            var row1 = row + n;
            var row2 = row1 + n;
            var row3 = row2 + n;
            var c = 0;
            for (; c + Lanes.Count <= width; c += Lanes.Count)
            {
                var sum = Vector512.Load(sums + c) + Lanes.Load(ref row[c], 0);
                sum += Lanes.Load(ref row1[c], 0);
                sum += Lanes.Load(ref row2[c], 0);
                sum += Lanes.Load(ref row3[c], 0);
                sum.Store(sums + c);
                Ask(row + (4L * n) + c);
                Ask(row1 + (4L * n) + c);
                Ask(row2 + (4L * n) + c);
                Ask(row3 + (4L * n) + c);
            }

            for (; c < width; c++)
            {
                sums[c] = sums[c] + Lanes.Get(ref row[c], 0) + Lanes.Get(ref row1[c], 0) + Lanes.Get(ref row2[c], 0) + Lanes.Get(ref row3[c], 0);
            }
        }

        /// <summary>For the line of the next four rows: a stripe of a row is too short for the processor to foresee the next.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void Ask(T* place)
        {
            if (Sse.IsSupported)
            {
                Sse.Prefetch0(place);
            }
        }

        private void AddOne(T* row, int width, float* sums)
        {
            var c = 0;
            for (; c + Lanes.Count <= width; c += Lanes.Count)
            {
                (Vector512.Load(sums + c) + Lanes.Load(ref row[c], 0)).Store(sums + c);
            }

            for (; c < width; c++)
            {
                sums[c] += Lanes.Get(ref row[c], 0);
            }
        }
    }
}
