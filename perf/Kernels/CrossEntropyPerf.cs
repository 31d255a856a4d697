using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Softmax cross-entropy over rows of the Qwen2.5-Coder vocabulary; two exponentials per logit bound it, not memory.</summary>
public static class CrossEntropyPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases() => [.. Cases<BFloat16>("bf16"), .. Cases<float>("fp32")];

    private static IEnumerable<PerfCase> Cases<T>(string dtype)
        where T : unmanaged
    {
        const int Rows = 128, Vocabulary = 151936;
        var shape = $"{Rows}x{Vocabulary}";
        yield return new($"CrossEntropy.Rows {dtype}", shape, CrossEntropy.RowsCost<T>(Rows, Vocabulary), p =>
        {
            var (logits, targets, losses) = (p.Random<T>(Rows, Vocabulary), Targets(p, Rows, Vocabulary), p.Empty<float>(Rows));
            return stream => CrossEntropy.Rows(stream, logits, targets, losses, 1f);
        });
        yield return new($"CrossEntropy.RowLosses {dtype}", shape, CrossEntropy.RowLossesCost<T>(Rows, Vocabulary), p =>
        {
            var (logits, targets, losses) = (p.Random<T>(Rows, Vocabulary), Targets(p, Rows, Vocabulary), p.Empty<float>(Rows));
            return stream => CrossEntropy.RowLosses(stream, logits, targets, losses);
        });
    }

    private static Tensor<int> Targets(PerfInputs p, int rows, int vocabulary) =>
        p.Ints([.. Enumerable.Range(0, rows).Select(r => r * 1181 % vocabulary)]);
}
