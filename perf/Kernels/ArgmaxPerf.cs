using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>The largest logit of each row, at the vocabulary of Qwen2.5-Coder.</summary>
public static class ArgmaxPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases()
    {
        const int Rows = 64, Vocabulary = 151_936;
        yield return new("Argmax.Forward bf16", $"{Rows}x{Vocabulary}", Argmax.ForwardCost<BFloat16>(Rows, Vocabulary), p =>
        {
            var (x, index) = (p.Random<BFloat16>(Rows, Vocabulary), p.Ints(new int[Rows]));
            return stream => Argmax.Forward(stream, x, index);
        });
    }
}
