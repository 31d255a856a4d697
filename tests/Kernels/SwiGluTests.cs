using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class SwiGluTests
{
    [Theory]
    [InlineData("cpu", 1, 1)]
    [InlineData("cpu", 5, 7)]
    [InlineData("cpu", 6, 16)]
    [InlineData("cpu", 9, 31)]
    [InlineData("cpu", 7, 97)]
    [InlineData("cpu", 5, 4864)]
    [InlineData("cpu", 5, 8961)]
    [InlineData("hostcuda", 1, 1)]
    [InlineData("hostcuda", 5, 7)]
    [InlineData("hostcuda", 6, 16)]
    [InlineData("hostcuda", 5, 129)]
    [InlineData("hostcuda", 5, 1032)]
    [InlineData("hostcuda", 5, 4864)]
    public void Forward_and_backward_are_the_formula(string device, int rows, int columns)
    {
        Formula<BFloat16>(device, rows, columns);
        if (device == "cpu")
        {
            Formula<float>(device, rows, columns);
        }
    }

    [Fact]
    public void The_oracle_is_the_derivative_of_the_formula()
    {
        double[] gates = [-30, -5, -1.2784645, -0.5, 0, 0.3, 2, 10];
        foreach (var gate in gates)
        {
            var (dg, du) = Gradients(0.7, gate, -1.3);
            Assert.Equal(KernelCheck.Differences([gate], g => 0.7 * Silu(g[0]) * -1.3)[0], dg, 1e-8);
            Assert.Equal(KernelCheck.Differences([-1.3], u => 0.7 * Silu(gate) * u[0])[0], du, 1e-8);
        }
    }

    [Theory]
    [InlineData("cpu", 37)]
    [InlineData("hostcuda", 37)]
    [InlineData("hostcuda", 40)]
    public void The_gradient_may_overwrite_the_input(string device, int columns)
    {
        using var bench = new KernelBench(device);
        var (dy, gateUp) = (bench.Put(bench.Input<BFloat16>(new Shape(7, columns))), bench.Put(bench.Rows<BFloat16>(7, 2 * columns)));
        var dgateUp = bench.Put(bench.Output<BFloat16>(gateUp.Shape));
        SwiGlu.Backward(bench.Stream, dy, gateUp, dgateUp);
        SwiGlu.Backward(bench.Stream, dy, gateUp, gateUp);
        Assert.Equal(bench.Bits(dgateUp), bench.Bits(gateUp));
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("hostcuda")]
    public void Nan_stays_visible(string device)
    {
        using var bench = new KernelBench(device);
        var gateUp = bench.Input<BFloat16>(new Shape(1, 48));
        gateUp.Span[3] = (BFloat16)float.NaN;
        gateUp.Span[19] = (BFloat16)float.NaN;
        gateUp.Span[24 + 8] = (BFloat16)float.NaN;
        var y = bench.Allocate<BFloat16>(new Shape(1, 24));
        var y1 = bench.Put(y);
        SwiGlu.Forward(bench.Stream, bench.Put(gateUp), y1);
        bench.Get(y1, y);
        Assert.Equal([3, 8, 19], Enumerable.Range(0, 24).Where(i => float.IsNaN(y.Span[i])));
    }

    [Theory]
    [InlineData(100)]
    [InlineData(104)]
    public void Two_runs_on_a_device_give_the_same_bits(int columns)
    {
        using var bench = new KernelBench("hostcuda");
        var (dy, gateUp) = (bench.Put(bench.Input<BFloat16>(new Shape(50, columns))), bench.Put(bench.Rows<BFloat16>(50, 2 * columns)));
        KernelCheck.SameBitsTwice(() =>
        {
            var (y, dgateUp) = (bench.Put(bench.Output<BFloat16>(dy.Shape)), bench.Put(bench.Output<BFloat16>(gateUp.Shape)));
            SwiGlu.Forward(bench.Stream, gateUp, y);
            SwiGlu.Backward(bench.Stream, dy, gateUp, dgateUp);
            return [bench.Bits(y), bench.Bits(dgateUp)];
        });
    }

    [Fact]
    public void Same_bits_for_any_workers_and_nothing_allocated()
    {
        using var bench = new KernelBench();
        var (dy, gateUp) = (bench.Input<BFloat16>(new Shape(50, 100)), bench.Rows<BFloat16>(50, 200));
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            var (y, dgateUp) = (bench.Output<BFloat16>(dy.Shape), bench.Output<BFloat16>(gateUp.Shape));
            SwiGlu.Forward(stream, gateUp, y);
            SwiGlu.Backward(stream, dy, gateUp, dgateUp);
            return [KernelCheck.Bits(y), KernelCheck.Bits(dgateUp)];
        });
        KernelCheck.AllocatesNothing(stream =>
        {
            SwiGlu.Forward(stream, gateUp, dy);
            SwiGlu.Backward(stream, dy, gateUp, gateUp);
        });
    }

    private static void Formula<T>(string device, int rows, int columns)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var (dy, gateUp) = (bench.Input<T>(new Shape(rows, columns)), bench.Rows<T>(rows, 2 * columns));
        for (var i = 0; i < columns; i++)
        {
            // row 0 covers gates from -16 to 16, where the sigmoid bends
            ref var gate = ref gateUp.Row(0)[i];
            Lanes.Set(ref gate, 0, 16 * Lanes.Get(ref gate, 0));
        }

        var (y, dgateUp) = (bench.Output<T>(dy.Shape), bench.Output<T>(gateUp.Shape));
        var (gateUp1, y1, dgateUp1) = (bench.Put(gateUp), bench.Put(y), bench.Put(dgateUp));
        SwiGlu.Forward(bench.Stream, gateUp1, y1);
        SwiGlu.Backward(bench.Stream, bench.Put(dy), gateUp1, dgateUp1);
        bench.Get(y1, y);
        bench.Get(dgateUp1, dgateUp);

        var (dys, inputs) = (KernelBench.Doubles(dy), KernelBench.Doubles(gateUp));
        var (expectedY, expected, terms) = (new double[dys.Length], new double[inputs.Length], new double[inputs.Length]);
        for (var i = 0; i < dys.Length; i++)
        {
            var at = (i / columns * 2 * columns) + (i % columns);
            var (gate, up) = (inputs[at], inputs[at + columns]);
            expectedY[i] = Silu(gate) * up;
            (expected[at], expected[at + columns]) = Gradients(dys[i], gate, up);
            var sigma = Sigma(gate);

            // 1 − σ loses what σ is off by, up to 4 roundings, however small the difference.
            terms[at] = Math.Abs(dys[i] * up) * (sigma + (Math.Abs(gate) * sigma * (1 - sigma + 0.4)));
            terms[at + columns] = Math.Abs(expected[at + columns]);
        }

        // exp is good to 1 ulp = 2 roundings; sum, quotient and products add one each, twice over in the slope.
        var relative = 10 * KernelCheck.Eps;
        KernelBench.Within(y, expectedY, relative + (1.01 * KernelCheck.Rounding<T>()), 1e-37);
        KernelCheck.EachWithin(dgateUp, expected, i => (terms[i] * relative) + (1.01 * KernelCheck.Rounding<T>() * Math.Abs(expected[i])) + 1e-37);
    }

    private static double Sigma(double gate) => 1 / (1 + Math.Exp(-gate));

    private static double Silu(double gate) => gate * Sigma(gate);

    private static (double Gate, double Up) Gradients(double dy, double gate, double up) =>
        (dy * up * (Sigma(gate) + (gate * Sigma(gate) * (1 - Sigma(gate)))), dy * Silu(gate));
}
