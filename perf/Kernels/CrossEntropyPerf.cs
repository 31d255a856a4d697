using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Softmax cross-entropy over rows of the Qwen2.5-Coder vocabulary, alone and fused with the LM head; two exponentials per logit bound
/// the former on a CPU, not memory.</summary>
public static class CrossEntropyPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size) => size switch
    {
        PerfSize.Small => [.. Rows<BFloat16>(6, 777, "bf16"), .. Rows<BFloat16>(2, 5, "bf16"), Head(19, 7, 24, 131)],
        PerfSize.Cpu => [.. Rows<BFloat16>(128, 151936, "bf16"), .. Rows<float>(128, 151936, "fp32"), Head(512, 256, 896, 32000)],
        _ => [.. Rows<BFloat16>(4096, 151936, "bf16"), Head(8192, 4096, 1536, 151936), Head(4096, 4096, 3584, 152064)],
    };

    private static IEnumerable<PerfCase> Rows<T>(int rows, int vocabulary, string dtype)
        where T : unmanaged
    {
        var shape = $"{rows}x{vocabulary}";
        yield return new($"CrossEntropy.Rows {dtype}", shape, CrossEntropy.RowsCost<T>(rows, vocabulary), p =>
        {
            var (logits, targets, losses) = (p.Checked("dlogits", p.Random<T>(rows, vocabulary)), Targets(p, rows, vocabulary), p.Output<float>("losses", rows));
            return stream => CrossEntropy.Rows(stream, logits, targets, losses, 1f);
        });
        yield return new($"CrossEntropy.RowLosses {dtype}", shape, CrossEntropy.RowLossesCost<T>(rows, vocabulary), p =>
        {
            var (logits, targets, losses) = (p.Random<T>(rows, vocabulary), Targets(p, rows, vocabulary), p.Output<float>("losses", rows));
            return stream => CrossEntropy.RowLosses(stream, logits, targets, losses);
        });
    }

    /// <summary>The whole head, forward and backward, every row a loss row. Logits and their gradient are rounded in between.</summary>
    private static PerfCase Head(int tokens, int chunk, int hidden, int vocabulary) => new(
        "CrossEntropy.HeadForwardBackward bf16", $"{tokens}x{hidden}x{vocabulary} by {chunk}", CrossEntropy.HeadCost<BFloat16>(tokens, chunk, hidden, vocabulary),
        p =>
        {
            var (x, w) = (p.Random<BFloat16>(tokens, hidden), p.Random<BFloat16>(vocabulary, hidden));
            var (dx, dw) = (p.Output<BFloat16>("dhidden", tokens, hidden), p.Checked("dweight", p.Random<float>(vocabulary, hidden)));
            var workspace = p.Declare(arena => new HeadWorkspace<BFloat16>(arena, tokens, chunk, hidden, vocabulary));
            var lossSum = p.Empty<double>(1);
            var sum = new double[1];
            p.Checked("loss", () =>
            {
                lossSum.CopyTo(sum);
                return sum[0];
            });
            workspace.Load(p.Stream, [.. Enumerable.Range(0, tokens).Select(t => t * 1181 % vocabulary)]);
            return stream => CrossEntropy.HeadForwardBackward(stream, x, w, workspace, dx, dw, accumulate: true, 1f / tokens, lossSum);
        },
        Roundings: 4);

    private static Tensor<int> Targets(PerfInputs p, int rows, int vocabulary) =>
        p.Ints([.. Enumerable.Range(0, rows).Select(r => r * 1181 % vocabulary)]);
}
