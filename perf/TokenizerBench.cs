using System.Diagnostics;
using System.Text;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Perf;

/// <summary>Encoding speed of one thread, to stand beside peer/bench_tokenizer.py, which measures Hugging Face tokenizers in the same way and
/// prints the same lines.</summary>
public static class TokenizerBench
{
    private const int Repeats = 5;

    /// <summary>Encodes each file whole once to warm up, then five times. Prints name, UTF-8 megabytes (10^6 bytes) a second of the median, and
    /// tokens.</summary>
    public static IEnumerable<PerfRow> Run(Tokenizer tokenizer, IEnumerable<string> files, TextWriter output)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(files);
        ArgumentNullException.ThrowIfNull(output);
        foreach (var file in files)
        {
            var text = File.ReadAllText(file);
            var bytes = Encoding.UTF8.GetByteCount(text);
            var ids = new List<int>(text.Length);
            tokenizer.Encode(text, ids);
            var micros = new double[Repeats];
            for (var i = 0; i < Repeats; i++)
            {
                ids.Clear();
                var start = Stopwatch.GetTimestamp();
                tokenizer.Encode(text, ids);
                micros[i] = Stopwatch.GetElapsedTime(start).TotalMicroseconds;
            }

            Array.Sort(micros);
            var row = new PerfRow("tokenizer", Path.GetFileName(file), $"{ids.Count} tokens", micros[1], micros[2], micros[3], bytes, 0, 0, 0, 0);
            output.WriteLine($"{row.Name} {row.BytesPerSecond / 1e6:F2} {ids.Count}");
            yield return row;
        }
    }
}
