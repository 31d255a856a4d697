using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>
/// Runs a case on a device and on the CPU code with the same inputs and compares every result: the CPU code is checked against a double
/// oracle by the tests, and stands in for it where no test runner is. Two right answers differ by what each rounds: per element at most
/// r · 2^-8 · (|expected| + s), with r the case's <see cref="PerfCase.Roundings"/> and s the rms of the tensor or of the element's row, whichever
/// is larger (an element may be small by cancellation among the large terms of its row), and in rms at most half of r · 2^-8. A result in fp32 that
/// no rounded intermediate stands before (r at most 2) differs by the order of its sum alone: 2^-14 takes the place of 2^-8.
/// </summary>
public static class KernelChecker
{
    private const double Rounding = 1.0 / 256, Fp32Sum = 1.0 / (1 << 14);

    /// <summary>Compares; the detail names the worst element.</summary>
    public static SelfTestResult Check(ComputeStream stream, PerfCase perfCase)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(perfCase);
        var name = $"{perfCase.Name} {perfCase.Shape}";
        using var cpu = new CpuStream();
        using var expected = new PerfInputs(cpu);
        using var actual = new PerfInputs(stream);
        perfCase.Prepare(expected)(cpu);
        perfCase.Prepare(actual)(stream);
        stream.Synchronize();
        if (expected.Results.Count == 0)
        {
            return new(name, false, "the case names no result");
        }

        var worst = new SelfTestResult(name, true, "");
        var share = -1.0;
        for (var i = 0; i < expected.Results.Count; i++)
        {
            var unit = expected.Results[i].IsFloat && perfCase.Roundings <= 2 ? Fp32Sum : Rounding;
            var (element, rms) = Compare(actual.Results[i].Read(), expected.Results[i].Read(), expected.Results[i].Columns, perfCase.Roundings * unit);
            var larger = Math.Max(element, rms);
            if (!(larger <= share))
            {
                share = larger;
                worst = new(name, larger <= 1, $"{expected.Results[i].Name}: {element:P0} of the bound per element, {rms:P0} in rms");
            }
        }

        return worst;
    }

    /// <summary>The largest share of its bound that any element takes, and the share that the rms takes; NaN where the device gave NaN.</summary>
    private static (double Element, double Rms) Compare(float[] actual, float[] expected, int columns, double bound)
    {
        double error = 0, largest = 0;
        var rms = Rms(expected);
        var scale = rms;
        for (var i = 0; i < expected.Length; i++)
        {
            if (i % columns == 0)
            {
                scale = Math.Max(rms, Rms(expected.AsSpan(i, columns)));
            }

            var difference = Math.Abs((double)actual[i] - expected[i]);
            var share = difference == 0 ? 0 : difference / (bound * (Math.Abs(expected[i]) + scale));
            largest = share <= largest ? largest : share;
            error += difference * difference;
        }

        return (largest, error == 0 ? 0 : Math.Sqrt(error / expected.Length) / (bound / 2 * rms));
    }

    private static double Rms(ReadOnlySpan<float> values)
    {
        var sum = 0.0;
        foreach (var value in values)
        {
            sum += (double)value * value;
        }

        return Math.Sqrt(sum / values.Length);
    }
}
