using System.Diagnostics;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>
/// Times cases: warm-up, then samples of the kernel and of two copies in turn, so that a noisy neighbour hits all alike. Input sets are
/// rotated until they exceed the caches. Prints p20/p50/p80, rates from the kernel's own <see cref="Z1Coder.Kernels.Cost"/>, and the
/// share of the copy roof measured in between.
/// </summary>
public sealed class PerfRunner(CpuStream stream, TextWriter output) : IDisposable
{
    private const double SecondsPerCase = 1.0;

    private const long CacheBytes = 96L << 20;

    private CopyRoof? _roof;
    private long _roofBytes;

    /// <summary>Whether no case so far allocated managed memory after warm-up.</summary>
    public bool AllAllocationFree { get; private set; } = true;

    /// <summary>Names the columns.</summary>
    public void PrintHeader()
    {
        output.WriteLine($"# {stream.DeviceName}, {Environment.Version}, {DateTime.UtcNow:yyyy-MM-dd HH:mm} UTC");
        output.WriteLine($"{"kernel",-34}{"shape",-16}{"p20 us",11}{"p50 us",11}{"p80 us",11}{"GB/s",8}{"GFLOP/s",9}{"copy GB/s",11}{"% copy",8}{"alloc",7}");
    }

    /// <summary>Times one case and prints its line.</summary>
    public PerfRow Run(PerfCase perfCase)
    {
        var bytes = Math.Max(1, perfCase.Cost.Bytes);
        using var inputs = new PerfInputs(stream);
        var sets = new Action<ComputeStream>[Math.Clamp(CacheBytes / bytes, 1, 12)];
        for (var i = 0; i < sets.Length; i++)
        {
            sets[i] = perfCase.Prepare(inputs);
        }

        var roof = RoofFor(bytes);
        var repeats = WarmUp(sets);
        var samples = new double[400];
        var vectors = new double[samples.Length];
        var moves = new double[samples.Length];
        var clock = Stopwatch.StartNew();
        var allocated = GC.GetAllocatedBytesForCurrentThread();
        var count = 0;
        var turn = 0;
        while (count < samples.Length && (count < 5 || clock.Elapsed.TotalSeconds < SecondsPerCase))
        {
            var start = Stopwatch.GetTimestamp();
            for (var r = 0; r < repeats; r++)
            {
                sets[turn++ % sets.Length](stream);
            }

            var middle = Stopwatch.GetTimestamp();
            for (var r = 0; r < repeats; r++)
            {
                roof.Copy(stream, bytes, byVectors: true);
            }

            var late = Stopwatch.GetTimestamp();
            for (var r = 0; r < repeats; r++)
            {
                roof.Copy(stream, bytes, byVectors: false);
            }

            samples[count] = Microseconds(start, middle) / repeats;
            vectors[count] = Microseconds(middle, late) / repeats;
            moves[count++] = Microseconds(late, Stopwatch.GetTimestamp()) / repeats;
        }

        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        AllAllocationFree &= allocated == 0;
        Array.Sort(samples, 0, count);
        Array.Sort(vectors, 0, count);
        Array.Sort(moves, 0, count);
        var (p50, copy) = (samples[count / 2], Math.Min(vectors[count / 2], moves[count / 2]));
        output.WriteLine(
            $"{perfCase.Name,-34}{perfCase.Shape,-16}{samples[count / 5],11:F1}{p50,11:F1}{samples[count * 4 / 5],11:F1}"
            + $"{bytes / p50 / 1e3,8:F1}{perfCase.Cost.Flops / p50 / 1e3,9:F1}{bytes / copy / 1e3,11:F1}{copy / p50 * 100,8:F0}{allocated,7}");
        return new PerfRow(
            "kernels", perfCase.Name, perfCase.Shape, samples[count / 5], p50, samples[count * 4 / 5], bytes, perfCase.Cost.Flops, bytes / copy * 1e6, 0, allocated);
    }

    /// <inheritdoc/>
    public void Dispose() => _roof?.Dispose();

    private static double Microseconds(long from, long to) => Stopwatch.GetElapsedTime(from, to).TotalMicroseconds;

    /// <summary>Lets the JIT reach its last tier; returns how many calls make a sample of at least 2 ms.</summary>
    private int WarmUp(Action<ComputeStream>[] sets)
    {
        var clock = Stopwatch.StartNew();
        var calls = 0;
        while (calls < 40 && (calls < Math.Max(3, sets.Length) || clock.Elapsed.TotalSeconds < 0.4))
        {
            sets[calls++ % sets.Length](stream);
        }

        Thread.Sleep(120);                              // the tier-1 compiler works in the background
        clock.Restart();
        sets[0](stream);
        return (int)Math.Clamp(2e-3 / Math.Max(1e-7, clock.Elapsed.TotalSeconds), 1, 1000);
    }

    private CopyRoof RoofFor(long bytes)
    {
        if (_roof is null || _roofBytes < bytes)
        {
            _roof?.Dispose();
            _roof = new CopyRoof(bytes);
            _roofBytes = Math.Max(bytes, 256L << 20);
            for (var i = 0; i < 40; i++)
            {
                _roof.Copy(stream, 1 << 20, byVectors: i % 2 == 0);
            }
        }

        return _roof;
    }
}
