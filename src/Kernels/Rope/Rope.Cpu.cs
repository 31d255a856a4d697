using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Rope
{
    private static void RotateCpu<T>(
        CpuStream stream, Tensor<T> qkv, Tensor<int> positions, RopeTable table, int rotatedHeads, float direction)
        where T : unmanaged => stream.For(qkv.Shape[0], 16, new Job<T>(qkv, positions, table.Cos, table.Sin, rotatedHeads, direction));

    private readonly struct Job<T>(
        Tensor<T> qkv, Tensor<int> positions, Tensor<float> cosTable, Tensor<float> sinTable, int rotatedHeads, float direction) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var columns = qkv.Shape[1];
            var half = cosTable.Shape[1];
            var at = positions.Span;
            for (var t = begin; t < end; t++)
            {
                ref var cos = ref Unsafe.Add(ref cosTable.Origin, (nint)at[t] * half);
                ref var sin = ref Unsafe.Add(ref sinTable.Origin, (nint)at[t] * half);
                ref var row = ref Unsafe.Add(ref qkv.Origin, (nint)t * columns);
                for (var head = 0; head < rotatedHeads; head++)
                {
                    Head(ref Unsafe.Add(ref row, head * 2 * half), ref cos, ref sin, (nuint)half, Vector512.Create(direction));
                }
            }
        }

        private static void Head(ref T head, ref float cosRow, ref float sinRow, nuint half, Vector512<float> direction)
        {
            nuint i = 0;
            for (; i + Lanes.Count <= half; i += Lanes.Count)
            {
                var (cos, sin) = (Lanes.Load(ref cosRow, i), Lanes.Load(ref sinRow, i) * direction);
                var (a, b) = (Lanes.Load(ref head, i), Lanes.Load(ref head, i + half));
                Lanes.Store(ref head, i, Vector512.FusedMultiplyAdd(-b, sin, a * cos));
                Lanes.Store(ref head, i + half, Vector512.FusedMultiplyAdd(a, sin, b * cos));
            }

            if (i < half)
            {
                var rest = (int)(half - i);
                var (cos, sin) = (Tail.Load(ref cosRow, i, rest), Tail.Load(ref sinRow, i, rest) * direction);
                var (a, b) = (Tail.Load(ref head, i, rest), Tail.Load(ref head, i + half, rest));
                Tail.Store(ref head, i, rest, Vector512.FusedMultiplyAdd(-b, sin, a * cos));
                Tail.Store(ref head, i + half, rest, Vector512.FusedMultiplyAdd(a, sin, b * cos));
            }
        }
    }
}
