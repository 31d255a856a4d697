using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>The largest logit of each row, at the vocabulary of Qwen2.5-Coder.</summary>
public static class ArgmaxPerf
{
    /// <summary>The cases.</summary>
    public static IEnumerable<PerfCase> Cases(PerfSize size)
    {
        var (rows, vocabulary) = size switch { PerfSize.Small => (3, 1001), PerfSize.Cpu => (64, 151_936), _ => (256, 151_936) };
        yield return new("Argmax.Forward bf16", $"{rows}x{vocabulary}", Argmax.ForwardCost<BFloat16>(rows, vocabulary), p =>
        {
            var (x, index) = (p.Random<BFloat16>(rows, vocabulary), p.Checked("index", p.Ints(new int[rows])));
            return stream => Argmax.Forward(stream, x, index);
        });
    }
}
