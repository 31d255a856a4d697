using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Row lookup and its gradient at the sizes of Qwen2.5-Coder.</summary>
public static class EmbeddingPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases()
    {
        foreach (var (tokens, vocabulary, hidden) in ((int, int, int)[])[(8192, 40000, 896), (4096, 40000, 1536)])
        {
            yield return new("Embedding.Forward bf16", $"{tokens}x{hidden}", Embedding.ForwardCost<BFloat16>(tokens, hidden), p =>
            {
                var (ids, w, y) = (Tokens(p, tokens, vocabulary), p.Random<BFloat16>(vocabulary, hidden), p.Empty<BFloat16>(tokens, hidden));
                return stream => Embedding.Forward(stream, ids, w, y);
            });
            var cost = Embedding.BackwardCost<BFloat16>(tokens, vocabulary, hidden, accumulate: true);
            yield return new("Embedding.Backward bf16", $"{tokens}x{hidden}", cost, p =>
            {
                var (ids, dy, dw) = (Tokens(p, tokens, vocabulary), p.Random<BFloat16>(tokens, hidden), p.Empty<float>(vocabulary, hidden));
                return stream => Embedding.Backward(stream, ids, dy, dw, accumulate: true);
            });
        }
    }

    /// <summary>Half of the tokens from a few hundred frequent ones, as in text.</summary>
    private static Tensor<int> Tokens(PerfInputs p, int count, int vocabulary)
    {
        var random = new Random(1);
        return p.Ints([.. Enumerable.Range(0, count).Select(_ => random.Next(random.Next(2) == 0 ? 300 : vocabulary))]);
    }
}
