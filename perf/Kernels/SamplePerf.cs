using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>A draw from each row, at the vocabulary of Qwen2.5-Coder: from all of it, and cut as its generation_config.json says.</summary>
public static class SamplePerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size)
    {
        var (rows, vocabulary) = size switch { PerfSize.Small => (3, 1001), PerfSize.Cpu => (8, 151_936), _ => (256, 151_936) };
        yield return Case("all", 1f, 0);
        yield return Case("top 20, 0.8", 0.8f, 20);

        PerfCase Case(string name, float p, int k) =>
            new($"Sample.Forward {name} bf16", $"{rows}x{vocabulary}", Sample.ForwardCost<BFloat16>(rows, vocabulary), inputs =>
            {
                var logits = inputs.Random<BFloat16>(rows, vocabulary);
                var (temperature, topP, seed) = (inputs.Empty<float>(rows), inputs.Empty<float>(rows), inputs.Empty<ulong>(rows));
                temperature.CopyFrom([.. Enumerable.Repeat(0.7f, rows)]);
                topP.CopyFrom([.. Enumerable.Repeat(p, rows)]);
                seed.CopyFrom([.. Enumerable.Range(0, rows).Select(r => (ulong)r)]);
                var (topK, counter) = (inputs.Ints([.. Enumerable.Repeat(k, rows)]), inputs.Ints(new int[rows]));
                var token = inputs.Checked("token", inputs.Ints(new int[rows]));
                return stream => Sample.Forward(stream, logits, temperature, topP, topK, seed, counter, token);
            });
    }
}
