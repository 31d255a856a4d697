using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>The last 1 to 15 elements of a row as one vector: they go through the same arithmetic as all others, and nothing beyond
/// the row is touched.</summary>
internal static class Tail
{
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static Vector512<float> Load<T>(ref readonly T origin, nuint index, int count, float fill = 0f)
        where T : unmanaged
    {
        var lanes = Vector512.Create(fill);
        ref var first = ref Unsafe.As<Vector512<float>, float>(ref lanes);
        for (var i = 0; i < count; i++)
        {
            Unsafe.Add(ref first, i) = Lanes.Get(in origin, index + (nuint)i);
        }

        return lanes;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    public static void Store<T>(ref T origin, nuint index, int count, Vector512<float> value)
        where T : unmanaged
    {
        ref var first = ref Unsafe.As<Vector512<float>, float>(ref value);
        for (var i = 0; i < count; i++)
        {
            Lanes.Set(ref origin, index + (nuint)i, Unsafe.Add(ref first, i));
        }
    }
}
