using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Z1Coder.Kernels;

/// <summary>
/// Rounds fp32 to bfloat16 up or down at random, up with a probability equal to the part cut off, so that the mean is the value itself.
/// The random bits are a pure function of (seed, step, element): two runs, any number of workers and the device give the same.
/// </summary>
internal static class StochasticRounding
{
    /// <summary>What the elements of one tensor at one step are counted from.</summary>
    /// <param name="seed">another for each tensor</param>
    /// <param name="step">another for each rounding of the tensor</param>
    public static ulong Key(ulong seed, long step) =>
        ((ulong)Hash32(seed, unchecked(2 * (ulong)step)) << 32) | Hash32(seed, unchecked((2 * (ulong)step) + 1));

    /// <summary>hash32 of z1.cuh, of which keys and draws are made: the upper half of splitmix64's output for the state seed + (index + 1) · 0x9E3779B97F4A7C15.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Hash32(ulong seed, ulong index)
    {
        unchecked
        {
            var z = seed + ((index + 1) * 0x9E3779B97F4A7C15);
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            return (uint)((z ^ (z >> 31)) >> 32);
        }
    }

    /// <summary>cut16 of z1.cuh, in the upper halves of the lanes: triple32 (Wellons, 2018), a bijection of 32 bits, of the element's number modulo 2^32,
    /// begun at one half of the key and joined by the other after the first multiplication. No statistic of 2^20 neighbours, of 400 steps, or of
    /// pairs of them differs from that of random bits (perf/LOG.md, 2026-12-01).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> Hash(Vector256<uint> element, ulong key)
    {
        var h = element + Vector256.Create((uint)key);
        h = (h ^ Vector256.ShiftRightLogical(h, 17)) * Vector256.Create(0xED5AD4BBu);
        h = (h ^ Vector256.ShiftRightLogical(h, 11)) + Vector256.Create((uint)(key >> 32));
        h *= Vector256.Create(0xAC4C1B51u);
        return (h ^ Vector256.ShiftRightLogical(h, 15)) * Vector256.Create(0x31848BABu);
    }

    /// <summary>Each lane as a value that bfloat16 holds exactly; lanes that are not finite stay (the store rounds them).</summary>
    /// <param name="x">elements <paramref name="first"/> to first + 7</param>
    /// <param name="key">from <see cref="Key"/></param>
    /// <param name="first">number of the first lane's element in its tensor</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> RoundHalf(Vector256<float> x, ulong key, ulong first)
    {
        var cut = Vector256.ShiftRightLogical(Hash(Vector256.Create((uint)first) + Vector256<uint>.Indices, key), 16);
        var exponent = Vector256.Create(0x7F800000u);
        var bits = x.AsUInt32();
        var rounded = (bits + cut) & Vector256.Create(0xFFFF0000u);
        return Vector256.ConditionalSelect(Vector256.Equals(bits & exponent, exponent), bits, rounded).AsSingle();
    }

    /// <summary>As <see cref="RoundHalf"/>, sixteen elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Round(Vector512<float> x, ulong key, ulong first) =>
        Vector512.Create(RoundHalf(x.GetLower(), key, first), RoundHalf(x.GetUpper(), key, first + 8));
}
