using System.Diagnostics;
using System.Runtime.CompilerServices;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Perf;

/// <summary>Greedy decoding by the product's own model: prompts of 64 tokens, then one token per sequence and pass.</summary>
public static class DecodeSteps
{
    private const int Prompt = 64, PromptRows = 128, PageTokens = 16;
    private const double WarmSeconds = 1;               // of passes, until the compiler has come to its last tier

    /// <summary>Runs one size at one batch; returns what it measured.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="size">nano, mini or 05b</param>
    /// <param name="type">bf16 or fp32</param>
    /// <param name="batch">sequences at once</param>
    public static DecodeResult Run(ComputeStream stream, string size, string type, int batch) =>
        type == "fp32" ? Run<float>(stream, size, batch) : Run<BFloat16>(stream, size, batch);

    private static DecodeResult Run<T>(ComputeStream stream, string size, int batch)
        where T : unmanaged
    {
        var config = StepCase.ConfigOf(size);
        var (fresh, repeats) = size switch { "05b" => (32, 3), "nano" => (128, 15), _ => (128, 5) };
        var parameters = new Qwen2Parameters(config);
        using var weights = new ParameterSet<T>("weights", parameters, stream);
        weights.Arena.Allocate();
        StepWeights.Fill(weights);
        var bytes = weights.Tensors.ToArray().Sum(t => t.Bytes);

        // of the middle pass. A tied embedding is read once, as the head; its gather of a row per sequence is not counted.
        var context = Prompt + (fresh / 2);
        var cached = 2L * config.NumHiddenLayers * config.NumKeyValueHeads * config.HeadDim * context * batch * Unsafe.SizeOf<T>();
        var products = weights.Tensors.ToArray().Where(t => t.Shape.Rank == 2).Sum(t => (long)t.Count);
        var flops = batch * ((2.0 * products) + (4.0 * config.NumHiddenLayers * config.NumAttentionHeads * config.HeadDim * context));
        var pagesEach = (Prompt + fresh + PageTokens - 1) / PageTokens;
        using var cache = new PagedKvCache<T>(config, 1 + (batch * pagesEach), PageTokens, stream);
        using var buffers = new PassBuffers<T>(config, PromptRows, batch, pagesEach * PageTokens, pagesEach, stream);
        var rows = new PassRows(Math.Max(PromptRows, batch), batch, pagesEach, PageTokens);
        int[][] pages = [.. Enumerable.Range(1, batch * pagesEach).Chunk(pagesEach)];
        var model = new Qwen2<T>(weights);
        var random = new Random(0);
        int[] prompts = [.. Enumerable.Range(0, Prompt * batch).Select(_ => random.Next(config.VocabSize))];
        var tokens = new int[batch];
        var (decode, prefill) = (new double[repeats], new double[repeats]);
        var (reads, shares) = (new double[repeats], new double[repeats]);
        var (rates, arithmetic) = (new double[repeats], new double[repeats]);
        long allocated = 0;
        var warm = Stopwatch.StartNew();
        for (var r = -1; r < repeats; r += r >= 0 || warm.Elapsed.TotalSeconds >= WarmSeconds ? 1 : 0)
        {
            if (r == 0)
            {
                Thread.Sleep(120);                      // the tier-1 compiler works in the background
            }

            var (read, rate) = (ReadRate(stream, weights), FmaRate(stream));
            var start = Stopwatch.GetTimestamp();
            for (var first = 0; first < batch; first += PromptRows / Prompt)
            {
                rows.Clear();
                for (var s = first; s < Math.Min(batch, first + (PromptRows / Prompt)); s++)
                {
                    rows.Add(prompts.AsSpan(s * Prompt, Prompt), 0, pages[s], wanted: true);
                }

                model.Pass(stream, buffers, cache, rows, prompt: true);
                TensorCopy.Download<int>(stream, buffers.Next.Prefix(rows.Wanted), tokens.AsSpan(first, rows.Wanted));
            }

            var middle = Stopwatch.GetTimestamp();
            var before = GC.GetTotalAllocatedBytes(precise: true);
            for (var i = 0; i < fresh; i++)
            {
                rows.Clear();
                for (var s = 0; s < batch; s++)
                {
                    rows.Add(tokens.AsSpan(s, 1), Prompt + i, pages[s], wanted: true);
                }

                model.Pass(stream, buffers, cache, rows, prompt: false);
                TensorCopy.Download<int>(stream, buffers.Next.Prefix(batch), tokens);
            }

            allocated = GC.GetTotalAllocatedBytes(precise: true) - before;
            var elapsed = Stopwatch.GetElapsedTime(middle).TotalSeconds;
            (read, rate) = (Math.Max(read, ReadRate(stream, weights)), Math.Max(rate, FmaRate(stream)));
            if (r >= 0)
            {
                prefill[r] = Stopwatch.GetElapsedTime(start, middle).TotalSeconds;
                decode[r] = elapsed;
                reads[r] = read;
                rates[r] = rate;
                shares[r] = (bytes + cached) * fresh / elapsed / read;
                arithmetic[r] = rate > 0 ? flops * fresh / elapsed / rate : 0;
            }
        }

        Array.Sort(decode);
        Array.Sort(prefill);
        Array.Sort(reads);
        Array.Sort(shares);
        Array.Sort(rates);
        Array.Sort(arithmetic);
        var (median, passes) = (decode[repeats / 2], (double)fresh);
        return new DecodeResult(
            $"{size} {(typeof(T) == typeof(float) ? "fp32" : "bf16")} x{batch}", batch * passes / median, batch * passes / decode[0],
            [decode[repeats / 5] / passes, median / passes, decode[Math.Min(repeats - 1, repeats * 4 / 5)] / passes], bytes + cached, flops,
            reads[repeats / 2] / 1e9, rates[repeats / 2] / 1e9, shares[repeats / 2], arithmetic[repeats / 2], batch * Prompt / prefill[repeats / 2], ProcStatus.PeakResidentBytes(), allocated / fresh);
    }

    /// <summary>Of fp32 multiply-adds on a CPU, which both element types are computed with; 0, no floor, on a device.</summary>
    private static double FmaRate(ComputeStream stream) => stream is CpuStream cpu ? Roofs.FmaRate(cpu, passes: 6) : 0;

    /// <summary>Of the same weights on a CPU; half of what a copy moves on a device.</summary>
    private static double ReadRate<T>(ComputeStream stream, ParameterSet<T> weights)
        where T : unmanaged => stream is CpuStream cpu
            ? Roofs.ReadRate(cpu, weights.Tensors, passes: 3)
            : Roofs.Measure(stream, quick: true).ReadBytesPerSecond;
}
