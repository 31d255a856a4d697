using System.Text.Json;

namespace Z1Coder.Perf;

/// <summary>What whole training steps measured.</summary>
/// <param name="Case">size, length, type</param>
/// <param name="TokensPerSecond">of the median step</param>
/// <param name="BestTokensPerSecond">of the quickest step</param>
/// <param name="Parts">median milliseconds of forward, head, backward, optimizer</param>
/// <param name="PeakBytes">most resident memory of the process</param>
/// <param name="Gflops">GFLOP/s of the median step, by TrainFlops</param>
/// <param name="RoofGflops">GFLOP/s of the best matrix product of the same type, before or after the steps</param>
/// <param name="ManagedBytesPerStep">allocated by all threads in the median step; must be 0 (a worker that meets a shape late makes its oneDNN primitive then)</param>
/// <param name="Seconds">p20, p50 and p80 of a step</param>
/// <param name="Steps">timed</param>
/// <param name="Loss">after the warm-up, nats a token: a sanity check</param>
public sealed record StepResult(
    StepCase Case, double TokensPerSecond, double BestTokensPerSecond, IReadOnlyList<double> Parts, long PeakBytes, double Gflops, double RoofGflops,
    long ManagedBytesPerStep, IReadOnlyList<double> Seconds, int Steps, double Loss)
{
    /// <summary>The columns of <see cref="ToString"/>.</summary>
    public static string Header =>
        $"{"step",-16}{"tok/s",9}{"best",9}{"fwd ms",9}{"head ms",9}{"bwd ms",9}{"opt ms",9}{"GFLOP/s",9}{"GEMM",7}{"%",5}{"RSS GiB",9}{"alloc",7}{"steps",6}{"load",6}";

    /// <summary>For a file of results.</summary>
    public PerfRow ToRow() => new(
        "steps", Case.Size, $"{Case.Length} {Case.Type}", Seconds[0] * 1e6, Seconds[1] * 1e6, Seconds[2] * 1e6, 0, Gflops * 1e9 * Seconds[1], 0,
        RoofGflops * 1e9, ManagedBytesPerStep);

    /// <inheritdoc/>
    public override string ToString() =>
        $"{Case,-16}{TokensPerSecond,9:F1}{BestTokensPerSecond,9:F1}{Parts[0],9:F1}{Parts[1],9:F1}{Parts[2],9:F1}{Parts[3],9:F1}{Gflops,9:F1}{RoofGflops,7:F0}"
        + $"{Gflops / RoofGflops * 100,5:F0}{PeakBytes / (double)(1 << 30),9:F2}{ManagedBytesPerStep,7}{Steps,6}{ProcStatus.Load(),6:F1}";

    /// <summary>One line with the keys of perf/peer/bench_train.py that a comparison needs.</summary>
    public string ToJson()
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteString("size", Case.Size);
            json.WriteNumber("seq", Case.Length);
            json.WriteString("mode", Case.Type);
            json.WriteNumber("tok_s_median", Math.Round(TokensPerSecond, 1));
            json.WriteNumber("tok_s_best", Math.Round(BestTokensPerSecond, 1));
            json.WriteNumber("peak_rss_gib", Math.Round(PeakBytes / (double)(1 << 30), 3));
            json.WriteNumber("gflops", Math.Round(Gflops, 1));
            json.WriteNumber("gemm_gflops", Math.Round(RoofGflops, 1));
            json.WriteNumber("managed_bytes_per_step", ManagedBytesPerStep);
            json.WriteEndObject();
        }

        return System.Text.Encoding.UTF8.GetString(buffer.ToArray());
    }
}
