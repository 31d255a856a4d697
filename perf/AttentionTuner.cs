using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Perf;

/// <summary>Searches the tile sizes of attention's mma.sync kernels: forward and backward of packed documents at the head counts of
/// Qwen2.5-Coder. A candidate that does not compile, does not fit or is not right is left out.</summary>
public static class AttentionTuner
{
    /// <summary>Times every candidate and stores the best.</summary>
    public static void Tune(CudaStream stream, int headDim, TextWriter output)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(output);
        var (heads, kvHeads) = headDim > 64 ? (12, 2) : (14, 2);
        var small = stream.Device.IsHostCuda;
        int[] lengths = small ? [33, 1] : [.. Enumerable.Repeat(1280, 8)];
        Attention.LoadTiles(stream.Device, headDim);       // now, so that no workspace does it over a candidate
        var best = (Milliseconds: double.MaxValue, Tiles: default(AttentionTiles));
        output.WriteLine($"{"tiles",-60}{"forward ms",12}{"backward ms",13}");
        foreach (var tiles in Attention.TileCandidates(headDim).Take(small ? 2 : int.MaxValue))
        {
            Attention.UseTiles(headDim, tiles);
            try
            {
                var wrong = AttentionPerf.CasesFor((heads, kvHeads, headDim), [7, 1, 65]).Select(c => KernelChecker.Check(stream, c)).FirstOrDefault(r => r.Passed == false);
                if (wrong is not null)
                {
                    output.WriteLine($"{tiles,-60}wrong: {wrong.Name}: {wrong.Detail}");
                    continue;
                }

                var times = AttentionPerf.CasesFor((heads, kvHeads, headDim), lengths).Select(c => Milliseconds(stream, c)).ToArray();
                output.WriteLine($"{tiles,-60}{times[0],12:F3}{times[1],13:F3}");
                if (times.Sum() < best.Milliseconds)
                {
                    best = (times.Sum(), tiles);
                }
            }
            catch (Exception e) when (e is KernelCompileException or CudaException { IsSticky: false } or NotSupportedException)
            {
                output.WriteLine($"{tiles,-60}left out: {e.Message}");
            }
        }

        if (best.Milliseconds == double.MaxValue)
        {
            Attention.UseTiles(headDim, null);
            throw new InvalidInputException($"no candidate worked on {stream.DeviceName}");
        }

        if (stream.Device.IsHostCuda)
        {
            Attention.UseTiles(headDim, null);
            output.WriteLine($"best: {best.Tiles}; not stored, times on hostcuda say nothing of a GPU");
            return;
        }

        Attention.UseTiles(headDim, best.Tiles);
        var path = Attention.StoreTiles(stream.Device, headDim, best.Tiles);
        output.WriteLine($"best: {best.Tiles}; stored in {path}");
    }

    private static double Milliseconds(CudaStream stream, PerfCase perfCase)
    {
        using var inputs = new PerfInputs(stream);
        using var start = new CudaEvent(stream.Device, timed: true);
        using var end = new CudaEvent(stream.Device, timed: true);
        var action = perfCase.Prepare(inputs);
        var samples = new double[stream.Device.IsHostCuda ? 1 : 20];
        action(stream);
        for (var i = 0; i < samples.Length; i++)
        {
            stream.Record(start);
            action(stream);
            stream.Record(end);
            end.Synchronize();
            samples[i] = end.MillisecondsSince(start);
        }

        Array.Sort(samples);
        return samples[samples.Length / 2];
    }
}
