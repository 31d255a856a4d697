using System.Diagnostics;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Perf;

/// <summary>
/// What confinement costs per program: the bare interpreter, a confinement of its own, and a kept one, in turn, so that the load of the machine falls on all
/// three alike. The program is "pass": everything that is measured is start and end.
/// </summary>
public static class SandboxBench
{
    /// <summary>Sorted milliseconds of each way.</summary>
    /// <param name="repeats">Programs of each way.</param>
    /// <param name="cancellation">Ends it early.</param>
    public static async Task<SandboxTimes> MeasureAsync(int repeats, CancellationToken cancellation)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(repeats, 1);
        using var alone = Sandbox.Create();
        using var kept = Sandbox.Create(reuse: true);
        var limits = new SandboxLimits();
        await kept.RunAsync("pass", limits, cancellation);      // the server's own start is paid once per worker
        var (bare, own, again) = (new double[repeats], new double[repeats], new double[repeats]);
        for (var i = 0; i < repeats; i++)
        {
            var clock = Stopwatch.StartNew();
            using (var process = Process.Start(alone.Python, ["-sSB", "-c", "pass"]))
            {
                await process.WaitForExitAsync(cancellation);
            }

            bare[i] = clock.Elapsed.TotalMilliseconds;
            clock.Restart();
            await alone.RunAsync("pass", limits, cancellation);
            own[i] = clock.Elapsed.TotalMilliseconds;
            clock.Restart();
            await kept.RunAsync("pass", limits, cancellation);
            again[i] = clock.Elapsed.TotalMilliseconds;
        }

        Array.Sort(bare);
        Array.Sort(own);
        Array.Sort(again);
        return new SandboxTimes(bare, own, again);
    }
}
