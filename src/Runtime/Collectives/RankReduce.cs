using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Z1Coder.Runtime;

/// <summary>
/// output[i] = ((x0[i] + x1[i]) + x2[i]) + …, or the largest: in the order of the ranks, so that the result depends on nothing else. float
/// and
/// bf16 are added in fp32, bf16 is rounded once at the end; double is added in double. output may be one of the inputs.
/// </summary>
internal static unsafe class RankReduce
{
    /// <summary>Reduces <paramref name="count"/> elements of <paramref name="ranks"/> inputs.</summary>
    public static void Run(byte element, Reduction reduction, byte** inputs, int ranks, byte* output, long count)
    {
        switch (element)
        {
            case CollectiveElement.Float:
                Singles<float>(reduction, (float**)inputs, ranks, (float*)output, count);
                break;
            case CollectiveElement.BFloat16:
                Singles<BFloat16>(reduction, (BFloat16**)inputs, ranks, (BFloat16*)output, count);
                break;
            case CollectiveElement.Double:
                Doubles(reduction, (double**)inputs, ranks, (double*)output, count);
                break;
            default:
                throw new NotSupportedException($"values of {CollectiveElement.NameOf(element)} cannot be reduced");
        }
    }

    private static void Singles<T>(Reduction reduction, T** inputs, int ranks, T* output, long count)
        where T : unmanaged
    {
        var i = 0L;
        for (; i + Lanes.Count <= count; i += Lanes.Count)
        {
            var value = Load(inputs[0] + i);
            for (var rank = 1; rank < ranks; rank++)
            {
                var next = Load(inputs[rank] + i);
                value = reduction == Reduction.Sum ? value + next : Vector512.Max(value, next);
            }

            Lanes.Store(ref Unsafe.AsRef<T>(output + i), 0, value);
        }

        for (; i < count; i++)
        {
            var value = Lanes.Get(in Unsafe.AsRef<T>(inputs[0] + i), 0);
            for (var rank = 1; rank < ranks; rank++)
            {
                var next = Lanes.Get(in Unsafe.AsRef<T>(inputs[rank] + i), 0);
                value = reduction == Reduction.Sum ? value + next : MathF.Max(value, next);
            }

            Lanes.Set(ref Unsafe.AsRef<T>(output + i), 0, value);
        }
    }

    private static void Doubles(Reduction reduction, double** inputs, int ranks, double* output, long count)
    {
        var i = 0L;
        for (; i + Vector512<double>.Count <= count; i += Vector512<double>.Count)
        {
            var value = Vector512.Load(inputs[0] + i);
            for (var rank = 1; rank < ranks; rank++)
            {
                var next = Vector512.Load(inputs[rank] + i);
                value = reduction == Reduction.Sum ? value + next : Vector512.Max(value, next);
            }

            value.Store(output + i);
        }

        for (; i < count; i++)
        {
            var value = inputs[0][i];
            for (var rank = 1; rank < ranks; rank++)
            {
                value = reduction == Reduction.Sum ? value + inputs[rank][i] : Math.Max(value, inputs[rank][i]);
            }

            output[i] = value;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Load<T>(T* address)
        where T : unmanaged => Lanes.Load(in Unsafe.AsRef<T>(address), 0);
}
