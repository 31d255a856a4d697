using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Argmax
{
    private static void ForwardCpu<T>(CpuStream stream, Tensor<T> x, Tensor<int> index)
        where T : unmanaged =>
        stream.For(x.Shape[0], 1, new Job<T>(x, index));

    /// <summary>Sixteen running maxima with the step they came from; then the best lane, the lowest column of equals.</summary>
    internal static int OfRow<T>(ref T row, int columns)
        where T : unmanaged
    {
        var best = Vector512.Create(float.NegativeInfinity);
        var step = Vector512<int>.Zero;
        var i = 0;
        for (; i + Lanes.Count <= columns; i += Lanes.Count)
        {
            var value = Lanes.Load(ref row, (nuint)i);
            var larger = Vector512.GreaterThan(value, best);
            best = Vector512.ConditionalSelect(larger, value, best);
            step = Vector512.ConditionalSelect(larger.AsInt32(), Vector512.Create(i), step);
        }

        var (top, column) = (float.NegativeInfinity, 0);
        for (var lane = 0; lane < Lanes.Count; lane++)
        {
            var at = step[lane] + lane;
            if (best[lane] > top || (best[lane] == top && top != float.NegativeInfinity && at < column))
            {
                (top, column) = (best[lane], at);
            }
        }

        for (; i < columns; i++)
        {
            var value = Lanes.Get(ref row, (nuint)i);
            if (value > top)
            {
                (top, column) = (value, i);
            }
        }

        return column;
    }

    private readonly struct Job<T>(Tensor<T> x, Tensor<int> index) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            for (var r = begin; r < end; r++)
            {
                index.Span[r] = OfRow(ref Unsafe.Add(ref x.Origin, (nint)r * x.Shape[1]), x.Shape[1]);
            }
        }
    }
}
