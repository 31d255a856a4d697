using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Row lookup and its gradient at the sizes of Qwen2.5-Coder.</summary>
public static class EmbeddingPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size)
    {
        (int Tokens, int Vocabulary, int Hidden)[] shapes = size switch
        {
            PerfSize.Small => [(37, 50, 40), (5, 9, 7)],
            PerfSize.Cpu => [(8192, 40000, 896), (4096, 40000, 1536)],
            _ => [(10240, 151936, 1536), (4096, 152064, 3584)],
        };
        foreach (var (tokens, vocabulary, hidden) in shapes)
        {
            yield return new("Embedding.Forward bf16", $"{tokens}x{hidden}", Embedding.ForwardCost<BFloat16>(tokens, hidden), p =>
            {
                var (ids, w, y) = (Tokens(p, tokens, vocabulary), p.Random<BFloat16>(vocabulary, hidden), p.Output<BFloat16>("y", tokens, hidden));
                return stream => Embedding.Forward(stream, ids, w, y);
            });
            var cost = Embedding.BackwardCost<BFloat16>(tokens, vocabulary, hidden, accumulate: true);
            yield return new("Embedding.Backward bf16", $"{tokens}x{hidden}", cost, p =>
            {
                var (ids, dy) = (Tokens(p, tokens, vocabulary), p.Random<BFloat16>(tokens, hidden));
                var dw = p.Checked("dw", p.Random<float>(vocabulary, hidden));
                return stream => Embedding.Backward(stream, ids, dy, dw, accumulate: true);
            });
        }
    }

    /// <summary>Half of the tokens from a few frequent ones, as in text.</summary>
    private static Tensor<int> Tokens(PerfInputs p, int count, int vocabulary)
    {
        var random = new Random(1);
        return p.Ints([.. Enumerable.Range(0, count).Select(_ => random.Next(random.Next(2) == 0 ? Math.Min(300, vocabulary) : vocabulary))]);
    }
}
