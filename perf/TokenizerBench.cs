using System.Diagnostics;
using System.Text;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Perf;

/// <summary>Encoding speed of one thread, to stand beside peer/bench_tokenizer.py, which measures Hugging Face tokenizers the same way.</summary>
public static class TokenizerBench
{
    private const int Repeats = 5;

    /// <summary>
    /// Encodes the whole text once to warm up, then five times: the median in UTF-8 megabytes (10^6 bytes) per second, and the ids.
    /// </summary>
    public static (double MegabytesPerSecond, int Tokens) Measure(Tokenizer tokenizer, string text)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(text);
        var ids = new List<int>(text.Length);
        tokenizer.Encode(text, ids);
        var seconds = new double[Repeats];
        for (var i = 0; i < Repeats; i++)
        {
            ids.Clear();
            var start = Stopwatch.GetTimestamp();
            tokenizer.Encode(text, ids);
            seconds[i] = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        Array.Sort(seconds);
        return (Encoding.UTF8.GetByteCount(text) / 1e6 / seconds[Repeats / 2], ids.Count);
    }
}
