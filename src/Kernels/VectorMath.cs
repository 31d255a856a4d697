using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Z1Coder.Kernels;

/// <summary>
/// Functions over the sixteen lanes of <see cref="Runtime.Lanes"/>. The operations and their order are fixed, so a result has the same
/// bits on every instruction set; narrower hardware runs the same lanes in parts.
/// </summary>
public static class VectorMath
{
    // Beyond these exp rounds to 0 and to infinity; inside them the two factors of 2^n stay normal.
    private const float Lowest = -104f, Highest = 89f;

    private const float Log2E = 1.442695f, Ln2 = 0.6931472f, Ln2Rest = -1.9046542e-9f;

    // 1.5 · 2^23: adding it rounds to an integer, which then stands in the low bits.
    private const float Shifter = 12582912f;

    // (exp(r) − 1 − r) / r² interpolated at the five Chebyshev nodes of |r| ≤ ln2/2, rounded to float: off by 1.1e-8 of exp(r) at most.
    private const float C2 = 0.5f, C3 = 0.16666576f, C4 = 0.041666556f, C5 = 0.008363203f, C6 = 0.0013926213f;

    /// <summary>exp of each lane, within 0.9 ulp from -∞ to ∞: subnormal results are rounded once, overflow is ∞, a NaN stays a NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Exp(Vector512<float> x)
    {
        if (!Avx512F.IsSupported)
        {
            return Vector512.Create(Exp(x.GetLower()), Exp(x.GetUpper()));
        }

        // Comparisons, not Min and Max: a NaN compares false and passes through.
        x = Vector512.ConditionalSelect(Vector512.LessThan(x, Vector512.Create(Lowest)), Vector512.Create(Lowest), x);
        x = Vector512.ConditionalSelect(Vector512.GreaterThan(x, Vector512.Create(Highest)), Vector512.Create(Highest), x);
        return ExpOfBounded(x);
    }

    /// <summary>exp of lanes known to be at most 0 (or NaN): what softmax needs, one comparison less. Same bits as Exp.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> ExpOfNonPositive(Vector512<float> x) => Avx512F.IsSupported
        ? ExpOfBounded(Vector512.ConditionalSelect(Vector512.LessThan(x, Vector512.Create(Lowest)), Vector512.Create(Lowest), x))
        : Vector512.Create(ExpOfNonPositive(x.GetLower()), ExpOfNonPositive(x.GetUpper()));

    /// <summary>The sum of the lanes, always halves first: 16 → 8 → 4 → 2 → 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector512<float> x)
    {
        var eight = x.GetLower() + x.GetUpper();
        var four = eight.GetLower() + eight.GetUpper();
        var two = four + Vector128.Shuffle(four, Vector128.Create(2, 3, 2, 3));
        return two.GetElement(0) + two.GetElement(1);
    }

    /// <summary>The sum of the lanes, always halves first: 8 → 4 → 2 → 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double Sum(Vector512<double> x)
    {
        var four = x.GetLower() + x.GetUpper();
        var two = four.GetLower() + four.GetUpper();
        return two.GetElement(0) + two.GetElement(1);
    }

    /// <summary>The largest lane. With a NaN among them the result is one of the lanes, which one is not said.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Max(Vector512<float> x)
    {
        var eight = Vector256.MaxNative(x.GetLower(), x.GetUpper());
        var four = Vector128.MaxNative(eight.GetLower(), eight.GetUpper());
        var two = Vector128.MaxNative(four, Vector128.Shuffle(four, Vector128.Create(2, 3, 2, 3)));
        return two.GetElement(0) > two.GetElement(1) ? two.GetElement(0) : two.GetElement(1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> ExpOfBounded(Vector512<float> x)
    {
        var shifted = Vector512.FusedMultiplyAdd(x, Vector512.Create(Log2E), Vector512.Create(Shifter));
        var n = shifted - Vector512.Create(Shifter);
        var r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-Ln2), x);
        r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-Ln2Rest), r);
        var p = Vector512.FusedMultiplyAdd(Vector512.Create(C6), r, Vector512.Create(C5));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(C4));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(C3));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(C2));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512<float>.One);
        p = Vector512.FusedMultiplyAdd(p, r, Vector512<float>.One);
        return Avx512F.Scale(p, n);
    }

    // Eight lanes, for hardware without sixteen, where an operation on a Vector512 is two to inline and the JIT's budget for inlining is soon
    // spent: the same operations in the same order.

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Exp(Vector256<float> x)
    {
        x = Vector256.ConditionalSelect(Vector256.LessThan(x, Vector256.Create(Lowest)), Vector256.Create(Lowest), x);
        x = Vector256.ConditionalSelect(Vector256.GreaterThan(x, Vector256.Create(Highest)), Vector256.Create(Highest), x);
        return ExpOfBounded(x);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> ExpOfNonPositive(Vector256<float> x) =>
        ExpOfBounded(Vector256.ConditionalSelect(Vector256.LessThan(x, Vector256.Create(Lowest)), Vector256.Create(Lowest), x));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> ExpOfBounded(Vector256<float> x)
    {
        var shifted = Vector256.FusedMultiplyAdd(x, Vector256.Create(Log2E), Vector256.Create(Shifter));
        var n = shifted - Vector256.Create(Shifter);
        var r = Vector256.FusedMultiplyAdd(n, Vector256.Create(-Ln2), x);
        r = Vector256.FusedMultiplyAdd(n, Vector256.Create(-Ln2Rest), r);
        var p = Vector256.FusedMultiplyAdd(Vector256.Create(C6), r, Vector256.Create(C5));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(C4));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(C3));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(C2));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256<float>.One);
        p = Vector256.FusedMultiplyAdd(p, r, Vector256<float>.One);
        return ScaleInTwoSteps(p, shifted.AsInt32() - Vector256.Create(Shifter).AsInt32());
    }

    /// <summary>p · 2^n without vscalefps, for p in [0.7, 1.5) and n in [-151, 129]: exact but for one rounding of a subnormal.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<float> ScaleInTwoSteps(Vector256<float> p, Vector256<int> n)
    {
        var first = Vector256.ShiftRightArithmetic(n, 1);
        var bias = Vector256.Create(127);
        return p * Vector256.ShiftLeft(first + bias, 23).AsSingle() * Vector256.ShiftLeft(n - first + bias, 23).AsSingle();
    }
}
