using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

public sealed class CrossEntropyHeadTests
{
    private const float Scale = 0.25f;

    [Theory]
    [InlineData(1, 8, 11, 1)]
    [InlineData(9, 8, 37, 1)]
    [InlineData(9, 8, 37, 3)]
    [InlineData(9, 8, 37, 4)]
    [InlineData(9, 16, 37, 100)]
    [InlineData(33, 24, 101, 7)]
    public void Loss_and_both_gradients_are_the_formula(int tokens, int hidden, int vocabulary, int chunkRows)
    {
        Formula<float>(tokens, hidden, vocabulary, chunkRows, 1e-5);
        Formula<BFloat16>(tokens, hidden, vocabulary, chunkRows, 1.0 / 64);
    }

    [Fact]
    public void Without_loss_rows_the_gradients_are_zero()
    {
        using var bench = new KernelBench();
        using var arena = new Arena("head");
        var workspace = Workspace<float>(arena, 3, 2, 8, 11);
        var (x, w) = (bench.Input<float>(new Shape(3, 8)), bench.Input<float>(new Shape(11, 8)));
        var (dx, dw, losses) = (bench.Output<float>(new Shape(3, 8)), bench.Output<float>(new Shape(11, 8)), bench.Output<float>(new Shape(3)));
        var sum = bench.Allocate<double>(new Shape(1));
        sum.Span[0] = 7;
        workspace.Load(bench.Stream, [-100, -100, -100]);
        Assert.Equal(0, CrossEntropy.HeadForwardBackward(bench.Stream, x, w, workspace, dx, dw, false, Scale, sum));
        Assert.Equal(7, sum.Span[0]);
        Assert.All(dx.Span.ToArray(), v => Assert.Equal(0f, v));
        Assert.All(dw.Span.ToArray(), v => Assert.Equal(0f, v));

        dw.Span.Fill(5);
        CrossEntropy.HeadForwardBackward(bench.Stream, x, w, workspace, dx, dw, true, Scale, sum);
        Assert.All(dw.Span.ToArray(), v => Assert.Equal(5f, v));
        Assert.Equal(0, CrossEntropy.HeadForward(bench.Stream, x, w, workspace, losses, sum));
        Assert.Equal(7, sum.Span[0]);
        Assert.All(losses.Span.ToArray(), v => Assert.Equal(0f, v));
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

    private static void Formula<T>(int tokens, int hidden, int vocabulary, int chunkRows, double tolerance)
        where T : unmanaged
    {
        using var bench = new KernelBench();
        using var arena = new Arena("head");
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
        var lossSum = bench.Allocate<double>(new Shape(1));
        var count = CrossEntropy.HeadForwardBackward(bench.Stream, x, w, workspace, dx, dw, false, Scale, lossSum);
        Assert.Equal(ids.Count(i => i >= 0), count);
        var scaled = lossSum.Span[0];
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

        Assert.Equal(count, CrossEntropy.HeadForward(bench.Stream, x, w, workspace, losses, lossSum));
        Assert.Equal(scaled + (scaled / Scale), lossSum.Span[0], 1e-12 * scaled);        // the scale is a power of two
        KernelCheck.EachWithin(losses, expectedLosses, t => tolerance * expectedLosses[t]);

        // Twice the gradient when it accumulates; the hidden rows may be overwritten by their gradient.
        CrossEntropy.HeadForwardBackward(bench.Stream, x, w, workspace, x, dw, true, Scale, lossSum);
        KernelBench.RmsWithin(dw, [.. expectedDw.Select(v => 2 * v)], tolerance);
        Assert.Equal(KernelCheck.Bits(dx), KernelCheck.Bits(x));
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
