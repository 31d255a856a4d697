using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>What every kernel promises: the same bits for any number of workers, no managed allocation, and a bound per element.</summary>
internal static class KernelCheck
{
    /// <summary>2^-24: the error of one rounding to float.</summary>
    public const double Eps = 1.0 / (1 << 24);

    /// <summary>The relative error of one rounding at most: 2^-24 with the 24 significant bits of float, 2^-8 with the 8 of bfloat16.</summary>
    public static double Rounding<T>() => typeof(T) == typeof(float) ? Eps : 1.0 / 256;

    /// <summary>Uniform values of which row 1 is × 2^40, row 2 × 2^-40, row 3 constant and row 4 zero, where there are as many.</summary>
    public static Tensor<T> Rows<T>(this KernelBench bench, int rows, int columns, bool constantAndZero = true)
        where T : unmanaged
    {
        var tensor = bench.Input<T>(new Shape(rows, columns));
        for (var c = 0; c < columns; c++)
        {
            Scale(tensor, rows, 1, c, v => v * Math.ScaleB(1, 40));
            Scale(tensor, rows, 2, c, v => v * Math.ScaleB(1, -40));
            if (constantAndZero)
            {
                Scale(tensor, rows, 3, c, _ => 0.75);
                Scale(tensor, rows, 4, c, _ => 0);
            }
        }

        return tensor;
    }

    /// <summary>|actual − expected| ≤ bound for every element; the first offender is named.</summary>
    public static void EachWithin<T>(
        Tensor<T> actual, double[] expected, Func<int, double> bound, [CallerArgumentExpression(nameof(actual))] string name = "")
        where T : unmanaged
    {
        Assert.Equal(expected.Length, actual.Count);
        for (var i = 0; i < expected.Length; i++)
        {
            double value = Lanes.Get(ref actual.Origin, (nuint)i);
            var limit = bound(i);
            if (!(Math.Abs(value - expected[i]) <= limit))
            {
                Assert.Fail($"{name}[{i}] of shape {actual.Shape} is {value:R}, expected {expected[i]:R} within {limit:E2}");
            }
        }
    }

    /// <summary>The bytes of a tensor.</summary>
    public static byte[] Bits<T>(Tensor<T> tensor)
        where T : unmanaged => MemoryMarshal.AsBytes(tensor.Span).ToArray();

    /// <summary>The bytes of a tensor that <see cref="KernelBench.Put"/> gave.</summary>
    public static byte[] Bits<T>(this KernelBench bench, Tensor<T> tensor)
        where T : unmanaged
    {
        var values = new T[tensor.Count];
        TensorCopy.Download(bench.Stream, tensor, values);
        return MemoryMarshal.AsBytes(values.AsSpan()).ToArray();
    }

    /// <summary>Runs the same work on 1, 2 and 3 workers and compares every output bit for bit.</summary>
    public static void SameBitsForAnyWorkers(Func<CpuStream, byte[][]> run)
    {
        using var alone = new CpuStream(1);
        var expected = run(alone);
        foreach (var workers in (int[])[2, 3, 2])
        {
            using var stream = new CpuStream(workers);
            var actual = run(stream);
            Assert.Equal(expected.Length, actual.Length);
            for (var i = 0; i < expected.Length; i++)
            {
                Assert.True(expected[i].AsSpan().SequenceEqual(actual[i]), $"output {i} differs between 1 and {workers} workers");
            }
        }
    }

    /// <summary>Runs the same work twice and compares every output bit for bit: what a device promises.</summary>
    public static void SameBitsTwice(Func<byte[][]> run)
    {
        var (first, second) = (run(), run());
        Assert.Equal(first.Length, second.Length);
        for (var i = 0; i < first.Length; i++)
        {
            Assert.True(first[i].AsSpan().SequenceEqual(second[i]), $"output {i} differs between two runs");
        }
    }

    /// <summary>Additions in the longest chain of one thread when a block of a device sums a row: eight columns at a time where the row has a
    /// multiple of eight, else one. The block then adds by two butterflies, ten additions more.</summary>
    public static int Chain(int columns, int threads) =>
        columns % 8 == 0 ? 8 * ((columns + (8 * threads) - 1) / (8 * threads)) : (columns + threads - 1) / threads;

    /// <summary>No managed byte per call after warm-up: on one worker, where this thread does everything, and on two.</summary>
    public static void AllocatesNothing(Action<CpuStream> call)
    {
        foreach (var workers in (int[])[1, 2])
        {
            using var stream = new CpuStream(workers);
            for (var i = 0; i < 3; i++)
            {
                call(stream);
            }

            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < 10; i++)
            {
                call(stream);
            }

            Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        }
    }

    /// <summary>The gradient of f by central differences.</summary>
    public static double[] Differences(double[] x, Func<double[], double> f)
    {
        var gradient = new double[x.Length];
        for (var i = 0; i < x.Length; i++)
        {
            var h = 1e-5 * Math.Max(1, Math.Abs(x[i]));
            var (up, down) = ((double[])x.Clone(), (double[])x.Clone());
            up[i] += h;
            down[i] -= h;
            gradient[i] = (f(up) - f(down)) / (2 * h);
        }

        return gradient;
    }

    private static void Scale<T>(Tensor<T> tensor, int rows, int row, int column, Func<double, double> change)
        where T : unmanaged
    {
        if (row < rows)
        {
            ref var element = ref tensor.Row(row)[column];
            Lanes.Set(ref element, 0, (float)change(Lanes.Get(ref element, 0)));
        }

    }
}
