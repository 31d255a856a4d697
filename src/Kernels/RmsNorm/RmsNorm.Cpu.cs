using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class RmsNorm
{
    private const int MaxBlocks = 64;

    private static void ForwardCpu<T>(CpuStream stream, Tensor<T> x, Tensor<T> w, Tensor<T> y, Tensor<float> rstd, float eps)
        where T : unmanaged => stream.For(x.Shape[0], 8, new ForwardJob<T>(x, w, y, rstd, eps));

    private static void ForwardResidualCpu<T>(
        CpuStream stream, Tensor<T> x, Tensor<T> residual, Tensor<T> w, Tensor<T> sum, Tensor<T> y, Tensor<float> rstd, float eps)
        where T : unmanaged => stream.For(x.Shape[0], 8, new ForwardResidualJob<T>(x, residual, w, sum, y, rstd, eps));

    private static void BackwardCpu<T>(
        CpuStream stream,
        Tensor<T> dy,
        Tensor<T> x,
        Tensor<T> w,
        Tensor<float> rstd,
        Tensor<T> dresidual,
        Tensor<T> dx,
        Tensor<float> dw,
        bool accumulate)
        where T : unmanaged
    {
        var (rows, columns) = (x.Shape[0], x.Shape[1]);
        var rowsPerBlock = Math.Max(1, (rows + MaxBlocks - 1) / MaxBlocks);
        var blocks = (rows + rowsPerBlock - 1) / rowsPerBlock;
        var partial = Scratch.Of<float>(stream, Math.Max(1, blocks), columns);
        stream.For(blocks, 1, new BackwardJob<T>(dy, x, w, rstd, dresidual, dx, partial, rowsPerBlock));
        stream.For((columns + SumJob.Stripe - 1) / SumJob.Stripe, 8, new SumJob(partial, dw, blocks, accumulate));
    }

    private static float ReciprocalDeviation(float sumOfSquares, int columns, float eps) =>
        1f / MathF.Sqrt((sumOfSquares / columns) + eps);

    private static float SumOfSquares<T>(ref T x, int columns)
        where T : unmanaged
    {
        var (even, odd) = (Vector512<float>.Zero, Vector512<float>.Zero);
        var n = (nuint)columns;
        nuint c = 0;
        for (; c + (2 * Lanes.Count) <= n; c += 2 * Lanes.Count)
        {
            var a = Lanes.Load(ref x, c);
            var b = Lanes.Load(ref x, c + Lanes.Count);
            even = Vector512.FusedMultiplyAdd(a, a, even);
            odd = Vector512.FusedMultiplyAdd(b, b, odd);
        }

        if (c + Lanes.Count <= n)
        {
            var a = Lanes.Load(ref x, c);
            even = Vector512.FusedMultiplyAdd(a, a, even);
            c += Lanes.Count;
        }

        if (c < n)
        {
            var a = Tail.Load(ref x, c, (int)(n - c));
            odd = Vector512.FusedMultiplyAdd(a, a, odd);
        }

        return VectorMath.Sum(even + odd);
    }

    private static void Normalize<T>(ref T x, ref T w, ref T y, int columns, float rstd)
        where T : unmanaged
    {
        var scale = Vector512.Create(rstd);
        var n = (nuint)columns;
        nuint c = 0;
        for (; c + Lanes.Count <= n; c += Lanes.Count)
        {
            Lanes.Store(ref y, c, Lanes.Load(ref x, c) * scale * Lanes.Load(ref w, c));
        }

        if (c < n)
        {
            var rest = (int)(n - c);
            Tail.Store(ref y, c, rest, Tail.Load(ref x, c, rest) * scale * Tail.Load(ref w, c, rest));
        }
    }

    private readonly struct ForwardJob<T>(Tensor<T> x, Tensor<T> w, Tensor<T> y, Tensor<float> rstd, float eps) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var columns = x.Shape[1];
            for (var t = begin; t < end; t++)
            {
                ref var row = ref Unsafe.Add(ref x.Origin, (nint)t * columns);
                var scale = ReciprocalDeviation(SumOfSquares(ref row, columns), columns, eps);
                Unsafe.Add(ref rstd.Origin, t) = scale;
                Normalize(ref row, ref w.Origin, ref Unsafe.Add(ref y.Origin, (nint)t * columns), columns, scale);
            }
        }
    }

    private readonly struct ForwardResidualJob<T>(
        Tensor<T> x, Tensor<T> residual, Tensor<T> w, Tensor<T> sum, Tensor<T> y, Tensor<float> rstd, float eps) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var columns = x.Shape[1];
            for (var t = begin; t < end; t++)
            {
                var offset = (nint)t * columns;
                ref var total = ref Unsafe.Add(ref sum.Origin, offset);
                Add(ref Unsafe.Add(ref x.Origin, offset), ref Unsafe.Add(ref residual.Origin, offset), ref total, columns);
                var scale = ReciprocalDeviation(SumOfSquares(ref total, columns), columns, eps);
                Unsafe.Add(ref rstd.Origin, t) = scale;
                Normalize(ref total, ref w.Origin, ref Unsafe.Add(ref y.Origin, offset), columns, scale);
            }
        }

        private static void Add(ref T a, ref T b, ref T y, int columns)
        {
            var n = (nuint)columns;
            nuint c = 0;
            for (; c + Lanes.Count <= n; c += Lanes.Count)
            {
                Lanes.Store(ref y, c, Lanes.Load(ref a, c) + Lanes.Load(ref b, c));
            }

            for (; c < n; c++)
            {
                Lanes.Set(ref y, c, Lanes.Get(ref a, c) + Lanes.Get(ref b, c));
            }
        }
    }

    /// <summary>One item is a block of rows: it writes their dx and the block's own sum of dw.</summary>
    private readonly struct BackwardJob<T>(
        Tensor<T> dy,
        Tensor<T> x,
        Tensor<T> w,
        Tensor<float> rstd,
        Tensor<T> dresidual,
        Tensor<T> dx,
        Tensor<float> partial,
        int rowsPerBlock) : ICpuJob
        where T : unmanaged
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var (rows, columns) = (x.Shape[0], x.Shape[1]);
            for (var block = begin; block < end; block++)
            {
                var sums = partial.Row(block);
                sums.Clear();
                var last = (int)Math.Min((long)(block + 1) * rowsPerBlock, rows);
                for (var t = block * rowsPerBlock; t < last; t++)
                {
                    var offset = (nint)t * columns;
                    ref var other = ref dresidual.IsEmpty ? ref Unsafe.NullRef<T>() : ref Unsafe.Add(ref dresidual.Origin, offset);
                    Row(
                        ref Unsafe.Add(ref dy.Origin, offset),
                        ref Unsafe.Add(ref x.Origin, offset),
                        ref w.Origin,
                        ref other,
                        ref Unsafe.Add(ref dx.Origin, offset),
                        ref sums[0],
                        columns,
                        Unsafe.Add(ref rstd.Origin, t));
                }
            }
        }

        private static void Row(ref T dy, ref T x, ref T w, ref T dresidual, ref T dx, ref float dw, int columns, float rstd)
        {
            var n = (nuint)columns;
            var slope = Vector512.Create(-(Dot(ref dy, ref x, ref w, columns) / columns * rstd * rstd));
            var scale = Vector512.Create(rstd);
            var through = !Unsafe.IsNullRef(ref dresidual);
            nuint c = 0;
            for (; c + Lanes.Count <= n; c += Lanes.Count)
            {
                var (d, v) = (Lanes.Load(ref dy, c), Lanes.Load(ref x, c));
                Lanes.Store(ref dw, c, Vector512.FusedMultiplyAdd(d, v * scale, Lanes.Load(ref dw, c)));
                var gradient = Vector512.FusedMultiplyAdd(v, slope, d * Lanes.Load(ref w, c));
                Lanes.Store(ref dx, c, through ? Vector512.FusedMultiplyAdd(gradient, scale, Lanes.Load(ref dresidual, c)) : gradient * scale);
            }

            if (c < n)
            {
                var rest = (int)(n - c);
                var (d, v) = (Tail.Load(ref dy, c, rest), Tail.Load(ref x, c, rest));
                Tail.Store(ref dw, c, rest, Vector512.FusedMultiplyAdd(d, v * scale, Tail.Load(ref dw, c, rest)));
                var gradient = Vector512.FusedMultiplyAdd(v, slope, d * Tail.Load(ref w, c, rest));
                var other = through ? Tail.Load(ref dresidual, c, rest) : Vector512<float>.Zero;
                Tail.Store(ref dx, c, rest, through ? Vector512.FusedMultiplyAdd(gradient, scale, other) : gradient * scale);
            }
        }

        private static float Dot(ref T dy, ref T x, ref T w, int columns)
        {
            var (even, odd) = (Vector512<float>.Zero, Vector512<float>.Zero);
            var n = (nuint)columns;
            nuint c = 0;
            for (; c + (2 * Lanes.Count) <= n; c += 2 * Lanes.Count)
            {
                var next = c + Lanes.Count;
                even = Vector512.FusedMultiplyAdd(Lanes.Load(ref dy, c) * Lanes.Load(ref w, c), Lanes.Load(ref x, c), even);
                odd = Vector512.FusedMultiplyAdd(Lanes.Load(ref dy, next) * Lanes.Load(ref w, next), Lanes.Load(ref x, next), odd);
            }

            if (c + Lanes.Count <= n)
            {
                even = Vector512.FusedMultiplyAdd(Lanes.Load(ref dy, c) * Lanes.Load(ref w, c), Lanes.Load(ref x, c), even);
                c += Lanes.Count;
            }

            if (c < n)
            {
                var rest = (int)(n - c);
                odd = Vector512.FusedMultiplyAdd(Tail.Load(ref dy, c, rest) * Tail.Load(ref w, c, rest), Tail.Load(ref x, c, rest), odd);
            }

            return VectorMath.Sum(even + odd);
        }
    }

    /// <summary>Adds the blocks' sums in their order, a stripe of columns per item.</summary>
    private readonly struct SumJob(Tensor<float> partial, Tensor<float> dw, int blocks, bool accumulate) : ICpuJob
    {
        public const int Stripe = 64;

        [MethodImpl(MethodImplOptions.NoInlining)]
        public void Run(int begin, int end, int worker)
        {
            var columns = dw.Shape[0];
            var (first, last) = ((nuint)(begin * Stripe), (nuint)Math.Min(end * Stripe, columns));
            ref var target = ref dw.Origin;
            ref var source = ref partial.Origin;
            var c = first;
            for (; c + Lanes.Count <= last; c += Lanes.Count)
            {
                var sum = accumulate ? Lanes.Load(ref target, c) : Vector512<float>.Zero;
                for (var block = 0; block < blocks; block++)
                {
                    sum += Lanes.Load(ref source, ((nuint)block * (nuint)columns) + c);
                }

                Lanes.Store(ref target, c, sum);
            }

            for (; c < last; c++)
            {
                var sum = accumulate ? Unsafe.Add(ref target, c) : 0f;
                for (var block = 0; block < blocks; block++)
                {
                    sum += Unsafe.Add(ref source, ((nuint)block * (nuint)columns) + c);
                }

                Unsafe.Add(ref target, c) = sum;
            }
        }
    }
}
