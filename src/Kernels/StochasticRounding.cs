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

    /// <summary>hash32 of z1.cuh: the upper half of splitmix64's output for the state seed + (index + 1) · 0x9E3779B97F4A7C15.</summary>
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

    /// <summary>Each lane as a value that bfloat16 holds exactly; lanes that are not finite stay (the store rounds them).</summary>
    /// <param name="x">elements <paramref name="first"/> to first + 15</param>
    /// <param name="key">from <see cref="Key"/></param>
    /// <param name="first">number of the first lane's element in its tensor</param>
    public static Vector512<float> Round(Vector512<float> x, ulong key, ulong first)
    {
        var cut = Vector512<uint>.Zero;
        ref var lane = ref Unsafe.As<Vector512<uint>, uint>(ref cut);
        for (var i = 0; i < Vector512<uint>.Count; i++)
        {
            Unsafe.Add(ref lane, i) = Hash32(key, first + (ulong)i) >> 16;
        }

        var exponent = Vector512.Create(0x7F800000u);
        var bits = x.AsUInt32();
        var rounded = (bits + cut) & Vector512.Create(0xFFFF0000u);
        return Vector512.ConditionalSelect(Vector512.Equals(bits & exponent, exponent), bits, rounded).AsSingle();
    }
}
