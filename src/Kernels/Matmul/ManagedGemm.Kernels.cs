using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Z1Coder.Kernels;

/// <summary>
/// The register tiles. Every element of C is one chain of fused multiply-adds over K, so both tiles give the same bits. Named variables,
/// because only those are sure to live in registers: 24 accumulators of 32 registers, or 12 of 16.
/// </summary>
internal static unsafe partial class ManagedGemm
{
    /// <summary>12 x 32: c (=|+=) the product of one sliver of A (12 values a step) and one of B (32 values a step).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Kernel12x32(nint steps, float* a, float* b, float* c, nint stride, bool add)
    {
        var (c00, c01) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (c10, c11) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (c20, c21) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (c30, c31) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (c40, c41) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (c50, c51) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (c60, c61) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (c70, c71) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (c80, c81) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (c90, c91) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (ca0, ca1) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var (cb0, cb1) = (Vector512<float>.Zero, Vector512<float>.Zero);
        for (; steps > 0; steps--)
        {
            var b0 = Vector512.Load(b);
            var b1 = Vector512.Load(b + 16);
            var a0 = Vector512.Create(a[0]);
            c00 = Vector512.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector512.FusedMultiplyAdd(a0, b1, c01);
            var a1 = Vector512.Create(a[1]);
            c10 = Vector512.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector512.FusedMultiplyAdd(a1, b1, c11);
            var a2 = Vector512.Create(a[2]);
            c20 = Vector512.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector512.FusedMultiplyAdd(a2, b1, c21);
            var a3 = Vector512.Create(a[3]);
            c30 = Vector512.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector512.FusedMultiplyAdd(a3, b1, c31);
            var a4 = Vector512.Create(a[4]);
            c40 = Vector512.FusedMultiplyAdd(a4, b0, c40);
            c41 = Vector512.FusedMultiplyAdd(a4, b1, c41);
            var a5 = Vector512.Create(a[5]);
            c50 = Vector512.FusedMultiplyAdd(a5, b0, c50);
            c51 = Vector512.FusedMultiplyAdd(a5, b1, c51);
            var a6 = Vector512.Create(a[6]);
            c60 = Vector512.FusedMultiplyAdd(a6, b0, c60);
            c61 = Vector512.FusedMultiplyAdd(a6, b1, c61);
            var a7 = Vector512.Create(a[7]);
            c70 = Vector512.FusedMultiplyAdd(a7, b0, c70);
            c71 = Vector512.FusedMultiplyAdd(a7, b1, c71);
            var a8 = Vector512.Create(a[8]);
            c80 = Vector512.FusedMultiplyAdd(a8, b0, c80);
            c81 = Vector512.FusedMultiplyAdd(a8, b1, c81);
            var a9 = Vector512.Create(a[9]);
            c90 = Vector512.FusedMultiplyAdd(a9, b0, c90);
            c91 = Vector512.FusedMultiplyAdd(a9, b1, c91);
            var aa = Vector512.Create(a[10]);
            ca0 = Vector512.FusedMultiplyAdd(aa, b0, ca0);
            ca1 = Vector512.FusedMultiplyAdd(aa, b1, ca1);
            var ab = Vector512.Create(a[11]);
            cb0 = Vector512.FusedMultiplyAdd(ab, b0, cb0);
            cb1 = Vector512.FusedMultiplyAdd(ab, b1, cb1);
            a += 12;
            b += 32;
        }

        if (add)
        {
            var from = c;
            c00 += Vector512.Load(from);
            c01 += Vector512.Load(from + 16);
            from += stride;
            c10 += Vector512.Load(from);
            c11 += Vector512.Load(from + 16);
            from += stride;
            c20 += Vector512.Load(from);
            c21 += Vector512.Load(from + 16);
            from += stride;
            c30 += Vector512.Load(from);
            c31 += Vector512.Load(from + 16);
            from += stride;
            c40 += Vector512.Load(from);
            c41 += Vector512.Load(from + 16);
            from += stride;
            c50 += Vector512.Load(from);
            c51 += Vector512.Load(from + 16);
            from += stride;
            c60 += Vector512.Load(from);
            c61 += Vector512.Load(from + 16);
            from += stride;
            c70 += Vector512.Load(from);
            c71 += Vector512.Load(from + 16);
            from += stride;
            c80 += Vector512.Load(from);
            c81 += Vector512.Load(from + 16);
            from += stride;
            c90 += Vector512.Load(from);
            c91 += Vector512.Load(from + 16);
            from += stride;
            ca0 += Vector512.Load(from);
            ca1 += Vector512.Load(from + 16);
            from += stride;
            cb0 += Vector512.Load(from);
            cb1 += Vector512.Load(from + 16);
        }

        c00.Store(c);
        c01.Store(c + 16);
        c += stride;
        c10.Store(c);
        c11.Store(c + 16);
        c += stride;
        c20.Store(c);
        c21.Store(c + 16);
        c += stride;
        c30.Store(c);
        c31.Store(c + 16);
        c += stride;
        c40.Store(c);
        c41.Store(c + 16);
        c += stride;
        c50.Store(c);
        c51.Store(c + 16);
        c += stride;
        c60.Store(c);
        c61.Store(c + 16);
        c += stride;
        c70.Store(c);
        c71.Store(c + 16);
        c += stride;
        c80.Store(c);
        c81.Store(c + 16);
        c += stride;
        c90.Store(c);
        c91.Store(c + 16);
        c += stride;
        ca0.Store(c);
        ca1.Store(c + 16);
        c += stride;
        cb0.Store(c);
        cb1.Store(c + 16);
    }

    /// <summary>4 x 24: c (=|+=) the product of one sliver of A (4 values a step) and one of B (24 values a step). Meanwhile <paramref name="ahead"/>
    /// bytes for every two steps are asked for from <paramref name="next"/> on.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Kernel4x24(nint steps, float* a, float* b, float* c, nint stride, bool add, byte* next, nint ahead)
    {
        var (c00, c01, c02) = (Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero);
        var (c10, c11, c12) = (Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero);
        var (c20, c21, c22) = (Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero);
        var (c30, c31, c32) = (Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero);
        for (; steps >= 2; steps -= 2)                     // two steps: a branch in 24 instructions costs a twentieth
        {
            if (Sse.IsSupported)
            {
                Sse.Prefetch1(next);
                next += ahead;
            }

            var b0 = Vector256.Load(b);
            var b1 = Vector256.Load(b + 8);
            var b2 = Vector256.Load(b + 16);
            var a0 = Vector256.Create(a[0]);
            c00 = Vector256.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector256.FusedMultiplyAdd(a0, b1, c01);
            c02 = Vector256.FusedMultiplyAdd(a0, b2, c02);
            var a1 = Vector256.Create(a[1]);
            c10 = Vector256.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector256.FusedMultiplyAdd(a1, b1, c11);
            c12 = Vector256.FusedMultiplyAdd(a1, b2, c12);
            var a2 = Vector256.Create(a[2]);
            c20 = Vector256.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector256.FusedMultiplyAdd(a2, b1, c21);
            c22 = Vector256.FusedMultiplyAdd(a2, b2, c22);
            var a3 = Vector256.Create(a[3]);
            c30 = Vector256.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector256.FusedMultiplyAdd(a3, b1, c31);
            c32 = Vector256.FusedMultiplyAdd(a3, b2, c32);
            b0 = Vector256.Load(b + 24);
            b1 = Vector256.Load(b + 32);
            b2 = Vector256.Load(b + 40);
            a0 = Vector256.Create(a[4]);
            c00 = Vector256.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector256.FusedMultiplyAdd(a0, b1, c01);
            c02 = Vector256.FusedMultiplyAdd(a0, b2, c02);
            a1 = Vector256.Create(a[5]);
            c10 = Vector256.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector256.FusedMultiplyAdd(a1, b1, c11);
            c12 = Vector256.FusedMultiplyAdd(a1, b2, c12);
            a2 = Vector256.Create(a[6]);
            c20 = Vector256.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector256.FusedMultiplyAdd(a2, b1, c21);
            c22 = Vector256.FusedMultiplyAdd(a2, b2, c22);
            a3 = Vector256.Create(a[7]);
            c30 = Vector256.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector256.FusedMultiplyAdd(a3, b1, c31);
            c32 = Vector256.FusedMultiplyAdd(a3, b2, c32);
            a += 8;
            b += 48;
        }

        if (steps > 0)
        {
            var b0 = Vector256.Load(b);
            var b1 = Vector256.Load(b + 8);
            var b2 = Vector256.Load(b + 16);
            var a0 = Vector256.Create(a[0]);
            c00 = Vector256.FusedMultiplyAdd(a0, b0, c00);
            c01 = Vector256.FusedMultiplyAdd(a0, b1, c01);
            c02 = Vector256.FusedMultiplyAdd(a0, b2, c02);
            var a1 = Vector256.Create(a[1]);
            c10 = Vector256.FusedMultiplyAdd(a1, b0, c10);
            c11 = Vector256.FusedMultiplyAdd(a1, b1, c11);
            c12 = Vector256.FusedMultiplyAdd(a1, b2, c12);
            var a2 = Vector256.Create(a[2]);
            c20 = Vector256.FusedMultiplyAdd(a2, b0, c20);
            c21 = Vector256.FusedMultiplyAdd(a2, b1, c21);
            c22 = Vector256.FusedMultiplyAdd(a2, b2, c22);
            var a3 = Vector256.Create(a[3]);
            c30 = Vector256.FusedMultiplyAdd(a3, b0, c30);
            c31 = Vector256.FusedMultiplyAdd(a3, b1, c31);
            c32 = Vector256.FusedMultiplyAdd(a3, b2, c32);
        }

        if (add)
        {
            var from = c;
            c00 += Vector256.Load(from);
            c01 += Vector256.Load(from + 8);
            c02 += Vector256.Load(from + 16);
            from += stride;
            c10 += Vector256.Load(from);
            c11 += Vector256.Load(from + 8);
            c12 += Vector256.Load(from + 16);
            from += stride;
            c20 += Vector256.Load(from);
            c21 += Vector256.Load(from + 8);
            c22 += Vector256.Load(from + 16);
            from += stride;
            c30 += Vector256.Load(from);
            c31 += Vector256.Load(from + 8);
            c32 += Vector256.Load(from + 16);
        }

        c00.Store(c);
        c01.Store(c + 8);
        c02.Store(c + 16);
        c += stride;
        c10.Store(c);
        c11.Store(c + 8);
        c12.Store(c + 16);
        c += stride;
        c20.Store(c);
        c21.Store(c + 8);
        c22.Store(c + 16);
        c += stride;
        c30.Store(c);
        c31.Store(c + 8);
        c32.Store(c + 16);
    }
}
