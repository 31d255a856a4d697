using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class CrossEntropy
{
    private const int Block = 2048;

    private static void RowsCpu<T>(CpuStream stream, Tensor<T> logits, Tensor<int> targets, Tensor<float> losses, float gradientScale)
        where T : unmanaged => stream.For(logits.Shape[0], 1, new GradientJob<T>(logits, targets, losses, gradientScale));

    private static void RowLossesCpu<T>(CpuStream stream, Tensor<T> logits, Tensor<int> targets, Tensor<float> losses)
        where T : unmanaged => stream.For(logits.Shape[0], 1, new LossJob<T>(logits, targets, losses));

    /// <summary>shift = the maximum (0 for a row of −∞) and sum = Σ exp(x − shift). A NaN or +∞ in the row makes the sum NaN.</summary>
    private static (float Shift, float Sum) ShiftAndSum<T>(ref T row, int columns)
        where T : unmanaged
    {
        var maximum = float.NegativeInfinity;
        var shift = 0f;
        var sums = Vector512<float>.Zero;
        for (var first = 0; first < columns; first += Block)
        {
            var count = Math.Min(Block, columns - first);
            ref var block = ref Unsafe.Add(ref row, first);
            var top = Max(ref block, count);
            if (top > maximum)
            {
                var factor = maximum == float.NegativeInfinity ? 0f : VectorMath.Exp(Vector512.Create(maximum - top)).ToScalar();
                sums *= Vector512.Create(factor);
                maximum = shift = top;
            }

            sums += SumOfExp(ref block, count, shift);
        }

        return (shift, VectorMath.Sum(sums));
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static float Max<T>(ref T x, int count)
        where T : unmanaged
    {
        var (even, odd) = (Vector512.Create(float.NegativeInfinity), Vector512.Create(float.NegativeInfinity));
        var n = (nuint)count;
        nuint c = 0;
        for (; c + (2 * Lanes.Count) <= n; c += 2 * Lanes.Count)
        {
            even = Vector512.MaxNative(even, Lanes.Load(ref x, c));
            odd = Vector512.MaxNative(odd, Lanes.Load(ref x, c + Lanes.Count));
        }

        if (c + Lanes.Count <= n)
        {
            even = Vector512.MaxNative(even, Lanes.Load(ref x, c));
            c += Lanes.Count;
        }

        if (c < n)
        {
            odd = Vector512.MaxNative(odd, Tail.Load(ref x, c, (int)(n - c), float.NegativeInfinity));
        }

        return VectorMath.Max(Vector512.MaxNative(even, odd));
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static Vector512<float> SumOfExp<T>(ref T x, int count, float shift)
        where T : unmanaged
    {
        var (even, odd) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var offset = Vector512.Create(shift);
        var n = (nuint)count;
        nuint c = 0;
        for (; c + (2 * Lanes.Count) <= n; c += 2 * Lanes.Count)
        {
            even += VectorMath.ExpOfNonPositive(Lanes.Load(ref x, c) - offset);
            odd += VectorMath.ExpOfNonPositive(Lanes.Load(ref x, c + Lanes.Count) - offset);
        }

        if (c + Lanes.Count <= n)
        {
            even += VectorMath.ExpOfNonPositive(Lanes.Load(ref x, c) - offset);
            c += Lanes.Count;
        }

        if (c < n)
        {
            odd += VectorMath.ExpOfNonPositive(Tail.Load(ref x, c, (int)(n - c), float.NegativeInfinity) - offset);
        }

        return even + odd;
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Gradient<T>(ref T row, int columns, int target, float shift, float probabilityScale, float gradientScale)
        where T : unmanaged
    {
        var (offset, scale) = (Vector512.Create(shift), Vector512.Create(probabilityScale));
        var targetProbability = VectorMath.Exp(Vector512.Create(Lanes.Get(ref row, (nuint)target) - shift)).ToScalar() * probabilityScale;
        var n = (nuint)columns;
        nuint c = 0;
        for (; c + Lanes.Count <= n; c += Lanes.Count)
        {
            Lanes.Store(ref row, c, VectorMath.ExpOfNonPositive(Lanes.Load(ref row, c) - offset) * scale);
        }

        if (c < n)
        {
            var rest = (int)(n - c);
            Tail.Store(ref row, c, rest, VectorMath.ExpOfNonPositive(Tail.Load(ref row, c, rest) - offset) * scale);
        }

        Lanes.Set(ref row, (nuint)target, targetProbability - gradientScale);
    }

    private readonly struct GradientJob<T>(Tensor<T> logits, Tensor<int> targets, Tensor<float> losses, float gradientScale) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var columns = logits.Shape[1];
            for (var r = begin; r < end; r++)
            {
                var target = targets.Span[r];
                if (target == IgnoreIndex)
                {
                    losses.Span[r] = 0f;
                    logits.Row(r).Clear();
                    continue;
                }

                ref var row = ref Unsafe.Add(ref logits.Origin, (nint)r * columns);
                var (shift, sum) = ShiftAndSum(ref row, columns);
                losses.Span[r] = shift - Lanes.Get(ref row, (nuint)target) + MathF.Log(sum);
                Gradient(ref row, columns, target, shift, gradientScale / sum, gradientScale);
            }
        }
    }

    private readonly struct LossJob<T>(Tensor<T> logits, Tensor<int> targets, Tensor<float> losses) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var columns = logits.Shape[1];
            for (var r = begin; r < end; r++)
            {
                var target = targets.Span[r];
                if (target == IgnoreIndex)
                {
                    losses.Span[r] = 0f;
                    continue;
                }

                ref var row = ref Unsafe.Add(ref logits.Origin, (nint)r * columns);
                var (shift, sum) = ShiftAndSum(ref row, columns);
                losses.Span[r] = shift - Lanes.Get(ref row, (nuint)target) + MathF.Log(sum);
            }
        }
    }
}
