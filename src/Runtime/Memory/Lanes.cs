using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Z1Coder.Runtime;

/// <summary>
/// Sixteen elements at a time, as float, from and to storage of type float or <see cref="BFloat16"/>. The type test is resolved by the
/// JIT, so each instantiation holds one path. Sixteen lanes on every instruction set: narrower hardware runs the same lanes in halves,
/// so that a sum over lanes has the same bits everywhere.
/// </summary>
public static class Lanes
{
    /// <summary>Elements per vector.</summary>
    public const int Count = 16;

    /// <summary>Loads 16 elements starting at <paramref name="origin"/> + <paramref name="index"/>. The caller guarantees the bounds.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Load<T>(ref readonly T origin, nuint index)
        where T : unmanaged
    {
        ref var start = ref Unsafe.Add(ref Unsafe.AsRef(in origin), index);
        if (typeof(T) == typeof(float))
        {
            return Vector512.LoadUnsafe(ref Unsafe.As<T, float>(ref start));
        }

        if (typeof(T) != typeof(BFloat16))
        {
            Refuse<T>();
        }

        var packed = Vector256.LoadUnsafe(ref Unsafe.As<T, ushort>(ref start));
        return Avx512F.IsSupported
            ? Vector512.ShiftLeft(Avx512F.ConvertToVector512UInt32(packed), 16).AsSingle()
            : Vector512.Create(Widen(packed.GetLower()), Widen(packed.GetUpper()));
    }

    /// <summary>Stores 16 elements, rounding to nearest even when T is bfloat16. The caller guarantees the bounds.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<T>(ref T origin, nuint index, Vector512<float> value)
        where T : unmanaged
    {
        ref var start = ref Unsafe.Add(ref origin, index);
        if (typeof(T) == typeof(float))
        {
            value.StoreUnsafe(ref Unsafe.As<T, float>(ref start));
            return;
        }

        if (typeof(T) != typeof(BFloat16))
        {
            Refuse<T>();
        }

        Round(value).StoreUnsafe(ref Unsafe.As<T, ushort>(ref start));
    }

    /// <summary>As <see cref="Load"/>, 8 elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LoadHalf<T>(ref readonly T origin, nuint index)
        where T : unmanaged
    {
        ref var start = ref Unsafe.Add(ref Unsafe.AsRef(in origin), index);
        if (typeof(T) == typeof(float))
        {
            return Vector256.LoadUnsafe(ref Unsafe.As<T, float>(ref start));
        }

        if (typeof(T) != typeof(BFloat16))
        {
            Refuse<T>();
        }

        return Widen(Vector128.LoadUnsafe(ref Unsafe.As<T, ushort>(ref start)));
    }

    /// <summary>As <see cref="Store"/>, 8 elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreHalf<T>(ref T origin, nuint index, Vector256<float> value)
        where T : unmanaged
    {
        ref var start = ref Unsafe.Add(ref origin, index);
        if (typeof(T) == typeof(float))
        {
            value.StoreUnsafe(ref Unsafe.As<T, float>(ref start));
            return;
        }

        if (typeof(T) != typeof(BFloat16))
        {
            Refuse<T>();
        }

        var rounded = RoundHalf(value);
        Vector128.Narrow(rounded.GetLower(), rounded.GetUpper()).StoreUnsafe(ref Unsafe.As<T, ushort>(ref start));
    }

    /// <summary>One element as float.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Get<T>(ref readonly T origin, nuint index)
        where T : unmanaged
    {
        ref var element = ref Unsafe.Add(ref Unsafe.AsRef(in origin), index);
        if (typeof(T) == typeof(float))
        {
            return Unsafe.As<T, float>(ref element);
        }

        if (typeof(T) != typeof(BFloat16))
        {
            Refuse<T>();
        }

        return Unsafe.As<T, BFloat16>(ref element);
    }

    /// <summary>Stores one element, rounding to nearest even when T is bfloat16.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Set<T>(ref T origin, nuint index, float value)
        where T : unmanaged
    {
        ref var element = ref Unsafe.Add(ref origin, index);
        if (typeof(T) == typeof(float))
        {
            Unsafe.As<T, float>(ref element) = value;
            return;
        }

        if (typeof(T) != typeof(BFloat16))
        {
            Refuse<T>();
        }

        Unsafe.As<T, BFloat16>(ref element) = (BFloat16)value;
    }

    /// <summary>Sixteen bfloat16 bit patterns, rounded to nearest even; NaN stays a (quiet) NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<ushort> Round(Vector512<float> value)
    {
        if (!Avx512F.IsSupported)
        {
            // In halves from the start: what is written for Vector512 is two calls to inline for each operation, and the JIT stops inlining somewhere.
            var (lower, upper) = (RoundHalf(value.GetLower()), RoundHalf(value.GetUpper()));
            return Avx2.IsSupported
                ? Avx2.Permute4x64(Avx2.PackUnsignedSaturate(lower.AsInt32(), upper.AsInt32()).AsUInt64(), 0b11_01_10_00).AsUInt16()
                : Vector256.Narrow(lower, upper);
        }

        var bits = value.AsUInt32();
        var high = Vector512.ShiftRightLogical(bits, 16);
        var rounded = Vector512.ShiftRightLogical(bits + Vector512.Create(0x7FFFu) + (high & Vector512.Create(1u)), 16);
        var quiet = high | Vector512.Create(0x40u);
        var chosen = Vector512.ConditionalSelect(Vector512.Equals(value, value).AsUInt32(), rounded, quiet);
        return Avx512F.ConvertToVector256UInt16(chosen);
    }

    /// <summary>Eight bfloat16 bit patterns as float.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Widen(Vector128<ushort> packed) => Vector256.ShiftLeft(
        Avx2.IsSupported ? Avx2.ConvertToVector256Int32(packed).AsUInt32() : Vector256.Create(Vector128.WidenLower(packed), Vector128.WidenUpper(packed)),
        16).AsSingle();

    /// <summary>As <see cref="Round"/>, eight in the low halves of 32 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> RoundHalf(Vector256<float> value)
    {
        var bits = value.AsUInt32();
        var high = Vector256.ShiftRightLogical(bits, 16);
        var rounded = Vector256.ShiftRightLogical(bits + Vector256.Create(0x7FFFu) + (high & Vector256.Create(1u)), 16);
        return Vector256.ConditionalSelect(Vector256.Equals(value, value).AsUInt32(), rounded, high | Vector256.Create(0x40u));
    }

    // Tested in place, thrown elsewhere: a call that is not inlined would spill every vector register around each load and store.
    [DoesNotReturn]
    private static void Refuse<T>() => throw new NotSupportedException($"elements are float or BFloat16, not {typeof(T).Name}");
}
