using System.Text.Json;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Model;

/// <summary>Decoding with a cache on hostcuda beside the CPU, both in bf16, fed the same tokens.</summary>
[Collection("hostcuda")]
public sealed class CudaDecodeTests
{
    private const int Sequences = 3, Fresh = 6, Capacity = 40;

    private static readonly int[] s_lengths = [1, 17, 9];

    [Theory]
    [InlineData("a_tied")]
    [InlineData("b_untied")]
    public void Logits_of_prompts_and_of_every_further_token_are_those_of_the_CPU(string name)
    {
        var directory = Goldens.Model(name);
        Assert.SkipUnless(Directory.Exists(directory), $"{name} is not in this set of golden values");
        using var cpu = new CpuStream(2);
        using var cuda = new CudaStream(KernelDevices.HostCuda);
        var (expected, actual) = (Logits(cpu, directory), Logits(cuda, directory));

        // Each errs from the truth by at most twice PyTorch's own bf16 error in rms (Qwen2GoldenTests, the self-test), so they differ by four.
        using var info = JsonDocument.Parse(File.ReadAllBytes(Goldens.Require(name, "info.json")));
        var peer = info.RootElement.GetProperty("packed").GetProperty("bf16").GetProperty("full_bf16").GetProperty("logits_rms_diff").GetDouble();
        Assert.Equal(1 + Fresh, expected.Count);
        for (var pass = 0; pass < expected.Count; pass++)
        {
            var square = expected[pass].Zip(actual[pass], (e, a) => Math.Pow((double)e - a, 2)).Average();
            Assert.True(Math.Sqrt(square) <= 4 * peer, $"pass {pass}: rms {Math.Sqrt(square):E2}, bound {4 * peer:E2}");
        }
    }

    private static List<float[]> Logits(ComputeStream stream, string directory)
    {
        using var weights = HfWeights.Open<BFloat16>(directory, stream);
        var config = weights.Parameters.Config;
        using var cache = new KvCache<BFloat16>(config, Sequences + 1, Capacity, stream);
        using var a = new DecodeActivations<BFloat16>(config, s_lengths.Sum(), Sequences, Capacity, stream);
        var model = new Qwen2<BFloat16>(weights);
        int[] slots = [2, 0, 3];
        int[] Tokens(int count, int salt) => [.. Enumerable.Range(0, count).Select(i => ((i * 37) + salt) % config.VocabSize)];
        model.Prefill(stream, a, cache, Tokens(s_lengths.Sum(), 5), s_lengths, slots);
        var logits = new List<float[]> { Read() };
        for (var step = 0; step < Fresh; step++)
        {
            model.Decode(stream, a, cache, Tokens(Sequences, 11 * step), [.. s_lengths.Select(n => n + step)], slots);
            logits.Add(Read());
        }

        var next = new int[Sequences];
        a.Next.CopyTo(next);
        for (var s = 0; s < Sequences; s++)
        {
            var row = logits[^1].AsSpan(s * config.VocabSize, config.VocabSize);
            Assert.Equal(row[next[s]], row.ToArray().Max());
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => model.Decode(stream, a, cache, [0, 0, config.VocabSize], [9, 9, 9], slots));
        Assert.Throws<ArgumentOutOfRangeException>(() => model.Decode(stream, a, cache, [0, 0, 0], [9, 9, Capacity], slots));
        Assert.Throws<ArgumentOutOfRangeException>(() => model.Decode(stream, a, cache, [0, 0, 0], [9, 9, 9], [0, 1, Sequences + 1]));
        return logits;

        float[] Read()
        {
            var host = new BFloat16[a.Logits.Count];
            a.Logits.CopyTo(host);
            return [.. host.Select(v => (float)v)];
        }
    }
}
