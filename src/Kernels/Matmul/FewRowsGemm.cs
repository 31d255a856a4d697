using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// y = x·wᵀ for a handful of rows of x, where the time goes into reading w: every element of w is loaded once per two rows of x, and
/// rows of w are spread over the workers. Each element of y is 16 chains of fused multiply-adds, one per lane, folded in a fixed order.
/// </summary>
internal static unsafe class FewRowsGemm
{
    private const int RowsOfW = 4;                 // rows of w in flight: 4 streams to read, 4 or 8 independent chains

    /// <summary>C = A·B with contiguous K in both (A [M, K], B [N, K] read as its transpose).</summary>
    public static void Run<T>(CpuStream stream, in Gemm<T, T> gemm)
        where T : unmanaged
    {
        var blocks = (gemm.N + RowsOfW - 1) / RowsOfW;
        var grain = (int)Math.Clamp(65536L / Math.Max(1, (long)gemm.K * RowsOfW), 1, 64);
        stream.For(blocks, grain, new Job<T>(gemm));
    }

    private readonly struct Job<T>(Gemm<T, T> gemm) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            var last = Math.Min(gemm.N, end * RowsOfW);
            var j = begin * RowsOfW;
            for (; j <= last - RowsOfW; j += RowsOfW)
            {
                var i = 0;
                for (; i <= gemm.M - 2; i += 2)
                {
                    Block2x4(i, j);
                }

                if (i < gemm.M)
                {
                    Block1x4(i, j);
                }
            }

            for (; j < last; j++)
            {
                for (var i = 0; i < gemm.M; i++)
                {
                    Single(i, j);
                }
            }
        }

        private void Block2x4(int i, int j)
        {
            var k = gemm.K;
            var x0 = gemm.A + (i * gemm.ARow);
            var x1 = x0 + gemm.ARow;
            var w0 = gemm.B + (j * gemm.BColumn);
            var w1 = w0 + k;
            var w2 = w1 + k;
            var w3 = w2 + k;
            var (s00, s01, s02, s03) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            var (s10, s11, s12, s13) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            nuint p = 0;
            for (; p + Lanes.Count <= (nuint)k; p += Lanes.Count)
            {
                var (v0, v1) = (Lanes.Load(ref *x0, p), Lanes.Load(ref *x1, p));
                var w = Lanes.Load(ref *w0, p);
                s00 = Vector512.FusedMultiplyAdd(v0, w, s00);
                s10 = Vector512.FusedMultiplyAdd(v1, w, s10);
                w = Lanes.Load(ref *w1, p);
                s01 = Vector512.FusedMultiplyAdd(v0, w, s01);
                s11 = Vector512.FusedMultiplyAdd(v1, w, s11);
                w = Lanes.Load(ref *w2, p);
                s02 = Vector512.FusedMultiplyAdd(v0, w, s02);
                s12 = Vector512.FusedMultiplyAdd(v1, w, s12);
                w = Lanes.Load(ref *w3, p);
                s03 = Vector512.FusedMultiplyAdd(v0, w, s03);
                s13 = Vector512.FusedMultiplyAdd(v1, w, s13);
            }

            Store(i, j, Vector512.Sum(s00) + Tail(x0, w0, p));
            Store(i, j + 1, Vector512.Sum(s01) + Tail(x0, w1, p));
            Store(i, j + 2, Vector512.Sum(s02) + Tail(x0, w2, p));
            Store(i, j + 3, Vector512.Sum(s03) + Tail(x0, w3, p));
            Store(i + 1, j, Vector512.Sum(s10) + Tail(x1, w0, p));
            Store(i + 1, j + 1, Vector512.Sum(s11) + Tail(x1, w1, p));
            Store(i + 1, j + 2, Vector512.Sum(s12) + Tail(x1, w2, p));
            Store(i + 1, j + 3, Vector512.Sum(s13) + Tail(x1, w3, p));
        }

        private void Block1x4(int i, int j)
        {
            var k = gemm.K;
            var x = gemm.A + (i * gemm.ARow);
            var w0 = gemm.B + (j * gemm.BColumn);
            var w1 = w0 + k;
            var w2 = w1 + k;
            var w3 = w2 + k;
            var (s0, s1, s2, s3) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
            nuint p = 0;
            for (; p + Lanes.Count <= (nuint)k; p += Lanes.Count)
            {
                var v = Lanes.Load(ref *x, p);
                s0 = Vector512.FusedMultiplyAdd(v, Lanes.Load(ref *w0, p), s0);
                s1 = Vector512.FusedMultiplyAdd(v, Lanes.Load(ref *w1, p), s1);
                s2 = Vector512.FusedMultiplyAdd(v, Lanes.Load(ref *w2, p), s2);
                s3 = Vector512.FusedMultiplyAdd(v, Lanes.Load(ref *w3, p), s3);
            }

            Store(i, j, Vector512.Sum(s0) + Tail(x, w0, p));
            Store(i, j + 1, Vector512.Sum(s1) + Tail(x, w1, p));
            Store(i, j + 2, Vector512.Sum(s2) + Tail(x, w2, p));
            Store(i, j + 3, Vector512.Sum(s3) + Tail(x, w3, p));
        }

        /// <summary>The same arithmetic as in the blocks, for the rows of w that fill none.</summary>
        private void Single(int i, int j)
        {
            var x = gemm.A + (i * gemm.ARow);
            var w = gemm.B + (j * gemm.BColumn);
            var sum = Vector512<float>.Zero;
            nuint p = 0;
            for (; p + Lanes.Count <= (nuint)gemm.K; p += Lanes.Count)
            {
                sum = Vector512.FusedMultiplyAdd(Lanes.Load(ref *x, p), Lanes.Load(ref *w, p), sum);
            }

            Store(i, j, Vector512.Sum(sum) + Tail(x, w, p));
        }

        private float Tail(T* x, T* w, nuint p)
        {
            var sum = 0f;
            for (; p < (nuint)gemm.K; p++)
            {
                sum = MathF.FusedMultiplyAdd(Lanes.Get(ref *x, p), Lanes.Get(ref *w, p), sum);
            }

            return sum;
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
