using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// y = x·wᵀ for a handful of rows of x, where the time goes into reading w: every element of w is loaded once per two rows of x, and
/// rows of w are spread over the workers. Each element of y is 16 chains of fused multiply-adds, one per lane, folded in a fixed order.
/// Elements are taken 32 at a time: of bfloat16 the even ones, then the odd ones, which a shift and a mask widen where they stand.
/// </summary>
internal static unsafe class FewRowsGemm
{
    private const int Streams = 4;                  // places of w read side by side: 4 or 8 independent chains
    private const long BytesPerPart = 2L << 20;     // of w, read by one worker at a stretch: each start costs until the reads run ahead

    /// <summary>C = A·B with contiguous K in both (A [M, K], B [N, K] read as its transpose).</summary>
    public static void Run<T>(CpuStream stream, in Gemm<T, T> gemm)
        where T : unmanaged
    {
        if (gemm.M > 1)
        {
            stream.For(gemm.N, Streams * (int)Math.Clamp(65536L / Math.Max(1, (long)gemm.K * Streams), 1, 64), new Job<T>(gemm));
            return;
        }

        var round = stream.Workers * BytesPerPart;
        var parts = Math.Max(1, (((long)gemm.N * gemm.K * sizeof(T)) + (round / 2)) / round) * stream.Workers;
        stream.For(gemm.N, (int)((gemm.N + parts - 1) / parts), new Job<T>(gemm));
    }

    private const nuint Step = 2 * Lanes.Count;

    private readonly struct Job<T>(Gemm<T, T> gemm) : ICpuJob
        where T : unmanaged
    {
        /// <summary>
        /// Rows begin .. end of w, four at a time: for one row of x the n-th of four runs, each read straight through; for more rows of x,
        /// where arithmetic takes the time, neighbours.
        /// </summary>
        public void Run(int begin, int end, int worker)
        {
            var sums = stackalloc float[2 * Streams * Lanes.Count];
            var (k, blocks) = ((nuint)gemm.K, (end - begin) / Streams);
            var (run, step) = gemm.M == 1 ? (blocks, 1) : (1, Streams);
            for (int b = 0, j = begin; b < blocks; b++, j += step)
            {
                var w = gemm.B + (j * gemm.BColumn);
                var i = 0;
                for (; i <= gemm.M - 2; i += 2)
                {
                    var x = gemm.A + (i * gemm.ARow);
                    Sum2x4(x, x + gemm.ARow, w, (nuint)run * k, k, sums);
                    Finish(i, j, run, sums);
                    Finish(i + 1, j, run, sums + (Streams * Lanes.Count));
                }

                if (i < gemm.M)
                {
                    Sum1x4(gemm.A + (i * gemm.ARow), w, (nuint)run * k, k, sums);
                    Finish(i, j, run, sums);
                }
            }

            for (var j = begin + (Streams * blocks); j < end; j++)
            {
                for (var i = 0; i < gemm.M; i++)
                {
                    Single(i, j);
                }
            }
        }

        /// <summary>Lane sums of two rows of x against four of w. A leaf: calls behind the loop would put its sums into memory.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void Sum2x4(T* x0, T* x1, T* w0, nuint run, nuint k, float* sums)
        {
            var w1 = w0 + run;
            var w2 = w1 + run;
            var w3 = w2 + run;
            var (s00, s01, s02, s03) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            var (s10, s11, s12, s13) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            for (nuint p = 0; p + Step <= k; p += Step)
            {
                Load(x0, p, out var v0, out var u0);
                Load(x1, p, out var v1, out var u1);
                Prefetch(w0 + p, k);
                Load(w0, p, out var a0, out var b0);
                s00 = Vector512.FusedMultiplyAdd(u0, b0, Vector512.FusedMultiplyAdd(v0, a0, s00));
                s10 = Vector512.FusedMultiplyAdd(u1, b0, Vector512.FusedMultiplyAdd(v1, a0, s10));
                Load(w1, p, out var a1, out var b1);
                s01 = Vector512.FusedMultiplyAdd(u0, b1, Vector512.FusedMultiplyAdd(v0, a1, s01));
                s11 = Vector512.FusedMultiplyAdd(u1, b1, Vector512.FusedMultiplyAdd(v1, a1, s11));
                Load(w2, p, out var a2, out var b2);
                s02 = Vector512.FusedMultiplyAdd(u0, b2, Vector512.FusedMultiplyAdd(v0, a2, s02));
                s12 = Vector512.FusedMultiplyAdd(u1, b2, Vector512.FusedMultiplyAdd(v1, a2, s12));
                Load(w3, p, out var a3, out var b3);
                s03 = Vector512.FusedMultiplyAdd(u0, b3, Vector512.FusedMultiplyAdd(v0, a3, s03));
                s13 = Vector512.FusedMultiplyAdd(u1, b3, Vector512.FusedMultiplyAdd(v1, a3, s13));
            }

            s00.Store(sums);
            s01.Store(sums + 16);
            s02.Store(sums + 32);
            s03.Store(sums + 48);
            s10.Store(sums + 64);
            s11.Store(sums + 80);
            s12.Store(sums + 96);
            s13.Store(sums + 112);
        }

        /// <summary>Lane sums of one row of x against four of w. A leaf, as above.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void Sum1x4(T* x0, T* w0, nuint run, nuint k, float* sums)
        {
            var w1 = w0 + run;
            var w2 = w1 + run;
            var w3 = w2 + run;
            var (s00, s01, s02, s03) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            for (nuint p = 0; p + Step <= k; p += Step)
            {
                Load(x0, p, out var v0, out var u0);
                Load(w0, p, out var a0, out var b0);
                s00 = Vector512.FusedMultiplyAdd(u0, b0, Vector512.FusedMultiplyAdd(v0, a0, s00));
                Load(w1, p, out var a1, out var b1);
                s01 = Vector512.FusedMultiplyAdd(u0, b1, Vector512.FusedMultiplyAdd(v0, a1, s01));
                Load(w2, p, out var a2, out var b2);
                s02 = Vector512.FusedMultiplyAdd(u0, b2, Vector512.FusedMultiplyAdd(v0, a2, s02));
                Load(w3, p, out var a3, out var b3);
                s03 = Vector512.FusedMultiplyAdd(u0, b3, Vector512.FusedMultiplyAdd(v0, a3, s03));
            }

            s00.Store(sums);
            s01.Store(sums + 16);
            s02.Store(sums + 32);
            s03.Store(sums + 48);
        }

        /// <summary>Folds the lane sums of one row of x and four of w, and adds what the steps of 32 left over.</summary>
        private void Finish(int i, int j, int run, float* sums)
        {
            var x = gemm.A + (i * gemm.ARow);
            for (var r = 0; r < Streams; r++, j += run)
            {
                var w = gemm.B + (j * gemm.BColumn);
                Store(i, j, Vector512.Sum(Vector512.Load(sums + (r * Lanes.Count))) + Tail(x, w));
            }
        }

        /// <summary>The same arithmetic as in the blocks, for the rows of w that fill none.</summary>
        private void Single(int i, int j)
        {
            var x = gemm.A + (i * gemm.ARow);
            var w = gemm.B + (j * gemm.BColumn);
            var sum = Vector512<float>.Zero;
            for (nuint p = 0; p + Step <= (nuint)gemm.K; p += Step)
            {
                Load(x, p, out var v, out var u);
                Load(w, p, out var a, out var b);
                sum = Vector512.FusedMultiplyAdd(u, b, Vector512.FusedMultiplyAdd(v, a, sum));
            }

            Store(i, j, Vector512.Sum(sum) + Tail(x, w));
        }

        private float Tail(T* x, T* w)
        {
            var (p, sum) = ((nuint)gemm.K / Step * Step, 0f);
            if (p + Lanes.Count <= (nuint)gemm.K)
            {
                sum = Vector512.Sum(Lanes.Load(ref *x, p) * Lanes.Load(ref *w, p));
                p += Lanes.Count;
            }

            for (; p < (nuint)gemm.K; p++)
            {
                sum = MathF.FusedMultiplyAdd(Lanes.Get(ref *x, p), Lanes.Get(ref *w, p), sum);
            }

            return sum;
        }

        /// <summary>Asks for the same place in the next four rows: rows are too short for the processor to foresee them.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void Prefetch(T* place, nuint k)
        {
            if (Sse.IsSupported)
            {
                var next = place + (Streams * k);
                for (var r = 0; r < Streams; r++, next += k)
                {
                    Sse.Prefetch1(next);
                    if (typeof(T) == typeof(float))
                    {
                        Sse.Prefetch1(next + Lanes.Count);
                    }
                }
            }
        }

        /// <summary>Elements p .. p + 31: the first and second sixteen of float, the even and odd ones of bfloat16.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void Load(T* from, nuint p, out Vector512<float> first, out Vector512<float> second)
        {
            if (typeof(T) == typeof(float))
            {
                first = Vector512.Load((float*)from + p);
                second = Vector512.Load((float*)from + p + Lanes.Count);
            }
            else
            {
                var pairs = Vector512.Load((uint*)(from + p));
                first = Vector512.ShiftLeft(pairs, 16).AsSingle();
                second = (pairs & Vector512.Create(0xFFFF0000)).AsSingle();
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private void Store(int i, int j, float sum)
        {
            var y = gemm.C + (i * gemm.CRow) + j;
            if (gemm.Bias != null)
            {
                sum += Lanes.Get(ref gemm.Bias[j], 0);
            }

            if (gemm.Accumulate)
            {
                sum += Lanes.Get(ref *y, 0);
            }

            Lanes.Set(ref *y, 0, sum);
        }
    }
}
