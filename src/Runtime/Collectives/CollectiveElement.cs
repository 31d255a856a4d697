namespace Z1Coder.Runtime;

/// <summary>Element types as one byte: what headers compare and messages name. Types without a code of their own are known by their
/// size.</summary>
internal static unsafe class CollectiveElement
{
    public const byte None = 0, Float = 1, Double = 2, BFloat16 = 3, Byte = 4, Int32 = 5, Int64 = 6;

    private const byte Sized = 128;

    public static byte Of<T>()
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            return Float;
        }

        if (typeof(T) == typeof(double))
        {
            return Double;
        }

        if (typeof(T) == typeof(BFloat16))
        {
            return BFloat16;
        }

        if (typeof(T) == typeof(byte))
        {
            return Byte;
        }

        if (typeof(T) == typeof(int))
        {
            return Int32;
        }

        if (typeof(T) == typeof(long))
        {
            return Int64;
        }

        return sizeof(T) < Sized ? (byte)(Sized + sizeof(T))
            : throw new NotSupportedException($"no collective moves elements of type {typeof(T).Name}");
    }

    /// <summary>The code of a type whose values can be reduced.</summary>
    public static byte Reducible<T>()
        where T : unmanaged =>
        Of<T>() is var code && code is Float or Double or BFloat16
            ? code
            : throw new NotSupportedException($"values of float, double or BFloat16 are reduced, not of {typeof(T).Name}");

    public static int SizeOf(byte code) => code switch
    {
        None => 0,
        Float or Int32 => 4,
        Double or Int64 => 8,
        BFloat16 => 2,
        Byte => 1,
        _ => code - Sized,
    };

    public static string NameOf(byte code) => code switch
    {
        None => "nothing",
        Float => "float",
        Double => "double",
        BFloat16 => "bf16",
        Byte => "byte",
        Int32 => "int",
        Int64 => "long",
        _ => $"{code - Sized}-byte elements",
    };
}
