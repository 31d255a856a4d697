using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>The products of a linear layer.</summary>
public enum MatmulOp
{
    Forward,
    ForwardBias,
    BackwardInput,
    BackwardWeight,
}

/// <summary>One body for every device: each product against the sum of products in double.</summary>
internal static class MatmulCases
{
    // 1, odd, prime, one beside a register tile, a granule or a block of K (256), and enough rows or columns for several tiles
    public static readonly (int M, int N, int K)[] Sizes =
    [
        (1, 1, 1), (1, 7, 3), (2, 3, 17), (3, 64, 16), (5, 31, 33), (7, 129, 65), (12, 32, 256), (13, 33, 257), (64, 127, 255),
        (127, 97, 131), (241, 257, 61), (255, 513, 40), (520, 200, 48), (17, 1376, 64), (1, 1000, 896), (4, 515, 300), (300, 61, 520),
    ];

    /// <summary>Every size of a product. Outputs that do not accumulate start as NaN.</summary>
    public static void Check<T>(KernelBench bench, MatmulOp op, bool accumulate)
        where T : unmanaged
    {
        foreach (var (m, n, k) in Sizes)
        {
            Check<T>(bench, op, accumulate, m, n, k);
        }
    }

    /// <summary>One size of a product.</summary>
    public static void Check<T>(KernelBench bench, MatmulOp op, bool accumulate, int m, int n, int k)
        where T : unmanaged
    {
        var (x, w, dy) = (bench.Input<T>(new(m, k)), bench.Input<T>(new(n, k)), bench.Input<T>(new(m, n)));
        switch (op)
        {
            case MatmulOp.Forward or MatmulOp.ForwardBias:
            {
                var bias = op == MatmulOp.ForwardBias ? bench.Input<T>(new(n)) : default;
                var y = accumulate ? bench.Input<T>(new(m, n), 4) : bench.Output<T>(new(m, n));
                var old = accumulate ? KernelBench.Doubles(y) : null;
                var to = bench.Put(y);
                Matmul.Forward(bench.Stream, bench.Put(x), bench.Put(w), bias.IsEmpty ? default : bench.Put(bias), to, accumulate);
                bench.Get(to, y);
                new MatmulOracle(KernelBench.Doubles(x), KernelBench.Doubles(w), m, n, k, k, 1, 1, k)
                    .Compare(y, old, bias.IsEmpty ? null : KernelBench.Doubles(bias));
                break;
            }

            case MatmulOp.BackwardInput:
            {
                var dx = accumulate ? bench.Input<T>(new(m, k), 4) : bench.Output<T>(new(m, k));
                var old = accumulate ? KernelBench.Doubles(dx) : null;
                var to = bench.Put(dx);
                Matmul.BackwardInput(bench.Stream, bench.Put(dy), bench.Put(w), to, accumulate);
                bench.Get(to, dx);
                new MatmulOracle(KernelBench.Doubles(dy), KernelBench.Doubles(w), m, k, n, n, 1, k, 1).Compare(dx, old, null);
                break;
            }

            default:
            {
                var dw = accumulate ? bench.Input<float>(new(n, k), 4) : bench.Output<float>(new(n, k));
                var old = accumulate ? KernelBench.Doubles(dw) : null;
                var to = bench.Put(dw);
                Matmul.BackwardWeight(bench.Stream, bench.Put(dy), bench.Put(x), to, accumulate);
                bench.Get(to, dw);
                new MatmulOracle(KernelBench.Doubles(dy), KernelBench.Doubles(x), n, k, m, 1, n, k, 1).Compare(dw, old, null);
                break;
            }
        }
    }

    /// <summary>The bias gradient: exact inputs, so only the additions round. On a CPU to the bit, one chain in the order of the rows, the old value last.</summary>
    public static void CheckBias<T>(KernelBench bench, int m, int n, bool accumulate)
        where T : unmanaged
    {
        var dy = bench.Input<T>(new(m, n));
        var dbias = accumulate ? bench.Input<float>(new(n)) : bench.Output<float>(new(n));
        var expected = accumulate ? KernelBench.Doubles(dbias) : new double[n];
        var (old, chains, values) = (dbias.Span.ToArray(), new float[n], KernelBench.Doubles(dy));
        for (var i = 0; i < values.Length; i++)
        {
            expected[i % n] += values[i];
            chains[i % n] += (float)values[i];
        }

        var to = bench.Put(dbias);
        Matmul.BackwardBias(bench.Stream, bench.Put(dy), to, accumulate);
        bench.Get(to, dbias);
        KernelBench.Within(dbias, expected, 0, (m + 1) * (m + 1) * KernelBench.Ulp<float>());
        if (bench.Stream is CpuStream)
        {
            Assert.Equal(accumulate ? [.. chains.Zip(old, (sum, before) => sum + before)] : chains, dbias.Span.ToArray());
        }
    }

    /// <summary>Rows of larger tensors as operands; the rows beside the output stay as they were.</summary>
    public static void CheckSlices(KernelBench bench, int columns)
    {
        var all = bench.Input<BFloat16>(new(200, columns));
        var y = bench.Output<BFloat16>(new(130, 40));
        var (from, to) = (bench.Put(all), bench.Put(y));
        Matmul.Forward(bench.Stream, from.Rows(60, 128), from.Rows(11, 40), default, to.Rows(1, 128));
        bench.Get(to, y);
        var (x, w) = (KernelBench.Doubles(all.Rows(60, 128)), KernelBench.Doubles(all.Rows(11, 40)));
        new MatmulOracle(x, w, 128, 40, columns, columns, 1, 1, columns).Compare(y.Rows(1, 128), accumulated: null, bias: null);
        Assert.All(y.Row(0).ToArray(), v => Assert.True(float.IsNaN(v)));
        Assert.All(y.Row(129).ToArray(), v => Assert.True(float.IsNaN(v)));
    }
}
