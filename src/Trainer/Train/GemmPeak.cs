namespace Z1Coder.Trainer.Train;

/// <summary>
/// The GEMM rate that is 100 % MFU, of all ranks together, measured on this one. At the start of a process .NET's compiler threads take part of
/// the cores and the rate comes out too low (a demo reported 90 to 120 % MFU), so on a CPU it is measured once more after some steps.
/// </summary>
/// <param name="first">measured before the first step, in floating-point operations per second</param>
/// <param name="measureAgain">measures it once more; null where the first measurement holds</param>
internal sealed class GemmPeak(double first, Func<double>? measureAgain)
{
    /// <summary>Steps after which the compiler has come to rest.</summary>
    internal const int SettledAfter = 50;

    private Func<double>? _measureAgain = measureAgain;
    private int _steps;

    /// <summary>In floating-point operations per second; the highest that was measured.</summary>
    public double FlopsPerSecond { get; private set; } = first;

    /// <summary>The share of the peak that a step reached, 0..1. Each call is one step of this process.</summary>
    public double Share(double flops, double seconds)
    {
        if (++_steps > SettledAfter && _measureAgain is { } measure)
        {
            _measureAgain = null;
            FlopsPerSecond = Math.Max(FlopsPerSecond, measure());
        }

        return flops / seconds / FlopsPerSecond;
    }
}
