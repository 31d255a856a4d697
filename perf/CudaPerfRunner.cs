using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>
/// Times cases on a CUDA stream by events: warm-up, then samples of several launches each over input sets that together exceed the L2
/// cache. The roofs, a device copy and a bf16 product of 8192³, are measured in the same run.
/// </summary>
public sealed class CudaPerfRunner(CudaStream stream, TextWriter output)
{
    private const long CacheBytes = 256L << 20;     // five times the L2 of an H200

    private const double MillisecondsPerCase = 600;

    private readonly Roofs _roofs = Roofs.Measure(stream, quick: stream.Device.IsHostCuda);

    /// <summary>Names the columns.</summary>
    public void PrintHeader()
    {
        output.WriteLine(
            $"# {stream.DeviceName}, copy {_roofs.CopyBytesPerSecond / 1e9:F0} GB/s, GEMM {_roofs.BFloat16GemmFlopsPerSecond / 1e12:F1} TFLOP/s, "
            + $"{DateTime.UtcNow:yyyy-MM-dd HH:mm} UTC");
        output.WriteLine($"{"kernel",-40}{"shape",-34}{"p20 us",10}{"p50 us",10}{"p80 us",10}{"GB/s",8}{"TFLOP/s",9}{"% roof",8}{"alloc",7}");
    }

    /// <summary>Times one case and prints its line.</summary>
    public PerfRow Run(PerfCase perfCase)
    {
        ArgumentNullException.ThrowIfNull(perfCase);
        using var inputs = new PerfInputs(stream);
        var sets = new Action<ComputeStream>[stream.Device.IsHostCuda ? 1 : (int)Math.Clamp(CacheBytes / Math.Max(1, perfCase.Cost.Bytes), 1, 12)];
        for (var i = 0; i < sets.Length; i++)
        {
            sets[i] = perfCase.Prepare(inputs);
        }

        for (var i = 0; i < Math.Max(3, sets.Length); i++)
        {
            sets[i % sets.Length](stream);
        }

        using var start = new CudaEvent(stream.Device, timed: true);
        using var end = new CudaEvent(stream.Device, timed: true);
        var turn = 0;
        var once = Math.Max(1e-3, Sample(sets, 1, start, end, ref turn));
        var repeats = stream.Device.IsHostCuda ? 1 : (int)Math.Clamp(2.0 / once, 1, 100);
        var samples = new double[stream.Device.IsHostCuda ? 5 : (int)Math.Clamp(MillisecondsPerCase / (once * repeats), 10, 200)];
        var allocated = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < samples.Length; i++)
        {
            samples[i] = Sample(sets, repeats, start, end, ref turn) / repeats * 1e3;
        }

        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        Array.Sort(samples);
        var row = new PerfRow(
            "kernels", perfCase.Name, perfCase.Shape, samples[samples.Length / 5], samples[samples.Length / 2], samples[samples.Length * 4 / 5],
            perfCase.Cost.Bytes, perfCase.Cost.Flops, _roofs.CopyBytesPerSecond, _roofs.BFloat16GemmFlopsPerSecond, allocated);
        output.WriteLine(
            $"{row.Name,-40}{row.Shape,-34}{row.P20,10:F1}{row.P50,10:F1}{row.P80,10:F1}{row.BytesPerSecond / 1e9,8:F0}{row.FlopsPerSecond / 1e12,9:F1}"
            + $"{row.ShareOfRoof * 100,8:F0}{allocated,7}");
        return row;
    }

    private double Sample(Action<ComputeStream>[] sets, int repeats, CudaEvent start, CudaEvent end, ref int turn)
    {
        stream.Record(start);
        for (var i = 0; i < repeats; i++)
        {
            sets[turn++ % sets.Length](stream);
        }

        stream.Record(end);
        end.Synchronize();
        return end.MillisecondsSince(start);
    }
}
