using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class CrossEntropyHeadTests
{
    private const float Scale = 0.25f;

    [Theory]
    [InlineData("cpu", 1, 8, 11, 1)]
    [InlineData("cpu", 9, 8, 37, 1)]
    [InlineData("cpu", 9, 8, 37, 3)]
    [InlineData("cpu", 9, 8, 37, 4)]
    [InlineData("cpu", 9, 16, 37, 100)]
    [InlineData("cpu", 33, 24, 101, 7)]
    [InlineData("hostcuda", 1, 8, 16, 1)]
    [InlineData("hostcuda", 9, 16, 40, 3)]
    [InlineData("hostcuda", 9, 16, 40, 100)]
    [InlineData("hostcuda", 33, 24, 104, 7)]
    public void Loss_and_both_gradients_are_the_formula(string device, int tokens, int hidden, int vocabulary, int chunkRows)
    {
        Formula<BFloat16>(device, tokens, hidden, vocabulary, chunkRows, 1.0 / 64);
        if (device == "cpu")
        {
            Formula<float>(device, tokens, hidden, vocabulary, chunkRows, 1e-5);
        }
    }

    [Theory]
    [MemberData(nameof(KernelDevices.All), MemberType = typeof(KernelDevices))]
    public void Without_loss_rows_the_gradients_are_zero(string device)
    {
        using var bench = new KernelBench(device);
        using var arena = bench.Stream.CreateArena("head");
        var workspace = Workspace<BFloat16>(arena, 3, 2, 8, 16);
        var (x, w) = (bench.Put(bench.Input<BFloat16>(new Shape(3, 8))), bench.Put(bench.Input<BFloat16>(new Shape(16, 8))));
        var (dx, dw) = (bench.Put(bench.Output<BFloat16>(new Shape(3, 8))), bench.Put(bench.Output<float>(new Shape(16, 8))));
        var losses = bench.Put(bench.Output<float>(new Shape(3)));
        var start = bench.Allocate<double>(new Shape(1));
        start.Span[0] = 7;
        var sum = bench.Put(start);
        workspace.Load(bench.Stream, [-100, -100, -100]);
        Assert.Equal(0, CrossEntropy.HeadForwardBackward(bench.Stream, x, w, workspace, dx, dw, false, Scale, sum));
        Assert.Equal(7, Sum(bench, sum));
        Assert.All(bench.Bits(dx), b => Assert.Equal(0, b));
        Assert.All(bench.Bits(dw), b => Assert.Equal(0, b));

        dw = bench.Put(bench.Input<float>(new Shape(16, 8)));
        var before = bench.Bits(dw);
        CrossEntropy.HeadForwardBackward(bench.Stream, x, w, workspace, dx, dw, true, Scale, sum);
        Assert.Equal(before, bench.Bits(dw));
        Assert.Equal(0, CrossEntropy.HeadForward(bench.Stream, x, w, workspace, losses, sum));
        Assert.Equal(7, Sum(bench, sum));
        Assert.All(bench.Bits(losses), b => Assert.Equal(0, b));
    }

    [Fact]
    public void A_bad_target_or_workspace_is_refused_before_anything_is_written()
    {
        using var bench = new KernelBench();
        using var arena = new Arena("head");
        var workspace = Workspace<float>(arena, 3, 2, 8, 11);
        var (x, w) = (bench.Input<float>(new Shape(3, 8)), bench.Input<float>(new Shape(11, 8)));
        var (dx, dw) = (bench.Output<float>(new Shape(3, 8)), bench.Output<float>(new Shape(11, 8)));
        var sum = bench.Allocate<double>(new Shape(1));
        workspace.Load(bench.Stream, [3, -100]);
        var e = Assert.Throws<ArgumentOutOfRangeException>(() => workspace.Load(bench.Stream, [1, 2, 11]));
        Assert.Contains("row 2 is 11", e.Message);
        Assert.Equal((2, 1, 3), (workspace.Tokens, workspace.LossRows, workspace.Targets.Span[0]));
        Assert.Throws<ArgumentException>(() => workspace.Load(bench.Stream, [1, 2, 3, 4]));

        // two targets for three rows
        Assert.Throws<ArgumentException>(() => CrossEntropy.HeadForwardBackward(bench.Stream, x, w, workspace, dx, dw, false, Scale, sum));
        Assert.All(dw.Span.ToArray(), v => Assert.True(float.IsNaN(v)));
    }

    [Fact]
    public void Nothing_is_allocated()
    {
        using var bench = new KernelBench();
        using var arena = new Arena("head");
        var workspace = Workspace<float>(arena, 9, 2, 8, 11);
        var (x, w, sum) = (bench.Input<float>(new Shape(9, 8)), bench.Input<float>(new Shape(11, 8)), bench.Allocate<double>(new Shape(1)));
        var (dx, dw, losses) = (bench.Output<float>(new Shape(9, 8)), bench.Output<float>(new Shape(11, 8)), bench.Output<float>(new Shape(9)));
        KernelCheck.AllocatesNothing(stream =>
        {
            workspace.Load(stream, [1, -100, 3, 4, 5, 6, -100, 8, 9]);
            CrossEntropy.HeadForwardBackward(stream, x, w, workspace, dx, dw, false, Scale, sum);
            CrossEntropy.HeadForward(stream, x, w, workspace, losses, sum);
        });
    }

    private static double Sum(KernelBench bench, Tensor<double> sum) => BitConverter.ToDouble(bench.Bits(sum));

    private static void Formula<T>(string device, int tokens, int hidden, int vocabulary, int chunkRows, double tolerance)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        using var arena = bench.Stream.CreateArena("head");
        var workspace = Workspace<T>(arena, tokens + 2, chunkRows, hidden, vocabulary);
        var (x, w) = (bench.Input<T>(new Shape(tokens, hidden)), bench.Input<T>(new Shape(vocabulary, hidden)));
        int[] ids = [.. Enumerable.Range(0, tokens).Select(t => t % 4 == 2 ? -100 : t * 13 % vocabulary)];
        workspace.Load(bench.Stream, ids);
        var (xs, ws) = (KernelBench.Doubles(x), KernelBench.Doubles(w));
        var (expectedDx, expectedDw, expectedLosses) = (new double[xs.Length], new double[ws.Length], new double[tokens]);
        for (var t = 0; t < tokens; t++)
        {
            if (ids[t] >= 0)
            {
                expectedLosses[t] = Token(xs, ws, t, ids[t], hidden, vocabulary, expectedDx, expectedDw);
            }
        }

        var (dx, dw, losses) = (bench.Output<T>(x.Shape), bench.Output<float>(w.Shape), bench.Output<float>(new Shape(tokens)));
        var (x1, w1, dx1, dw1, losses1) = (bench.Put(x), bench.Put(w), bench.Put(dx), bench.Put(dw), bench.Put(losses));
        var lossSum = bench.Put(bench.Allocate<double>(new Shape(1)));
        var count = CrossEntropy.HeadForwardBackward(bench.Stream, x1, w1, workspace, dx1, dw1, false, Scale, lossSum);
        Assert.Equal(ids.Count(i => i >= 0), count);
        bench.Get(dx1, dx);
        bench.Get(dw1, dw);
        var scaled = Sum(bench, lossSum);
        Assert.Equal(Scale * expectedLosses.Sum(), scaled, tolerance * expectedLosses.Sum());
        KernelBench.RmsWithin(dx, expectedDx, tolerance);
        KernelBench.RmsWithin(dw, expectedDw, tolerance);
        for (var t = 0; t < tokens; t++)
        {
            if (ids[t] < 0)
            {
                Assert.All(dx.Row(t).ToArray(), v => Assert.Equal(0f, Lanes.Get(in v, 0)));
            }
        }

        Assert.Equal(count, CrossEntropy.HeadForward(bench.Stream, x1, w1, workspace, losses1, lossSum));
        bench.Get(losses1, losses);
        Assert.Equal(scaled + (scaled / Scale), Sum(bench, lossSum), 1e-12 * scaled);        // the scale is a power of two
        KernelCheck.EachWithin(losses, expectedLosses, t => tolerance * expectedLosses[t]);

        // Twice the gradient when it accumulates; the hidden rows may be overwritten by their gradient.
        CrossEntropy.HeadForwardBackward(bench.Stream, x1, w1, workspace, x1, dw1, true, Scale, lossSum);
        bench.Get(dw1, dw);
        KernelBench.RmsWithin(dw, [.. expectedDw.Select(v => 2 * v)], tolerance);
        Assert.Equal(KernelCheck.Bits(dx), bench.Bits(x1));
    }

    private static double Token(double[] x, double[] w, int t, int target, int hidden, int vocabulary, double[] dx, double[] dw)
    {
        var logits = new double[vocabulary];
        for (var n = 0; n < vocabulary; n++)
        {
            for (var k = 0; k < hidden; k++)
            {
                logits[n] += x[(t * hidden) + k] * w[(n * hidden) + k];
            }
        }

        var sum = logits.Sum(Math.Exp);
        for (var n = 0; n < vocabulary; n++)
        {
            var gradient = Scale * ((Math.Exp(logits[n]) / sum) - (n == target ? 1 : 0));
            for (var k = 0; k < hidden; k++)
            {
                dx[(t * hidden) + k] += gradient * w[(n * hidden) + k];
                dw[(n * hidden) + k] += gradient * x[(t * hidden) + k];
            }
        }

        return Math.Log(sum) - logits[target];
    }

    private static HeadWorkspace<T> Workspace<T>(Arena arena, int maxTokens, int chunkRows, int hidden, int vocabulary)
        where T : unmanaged
    {
        var workspace = new HeadWorkspace<T>(arena, maxTokens, chunkRows, hidden, vocabulary);
        arena.Allocate();
        return workspace;
    }
}
