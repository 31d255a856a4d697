using System.Text.Json;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Model;

/// <summary>
/// What the decode engine is built on: the logits of a sequence are the same bits however its prompt is cut, whatever else is in the pass, and
/// wherever its pages lie. Unused parts of the cache are NaN.
/// </summary>
[Collection("hostcuda")]
public sealed class PassTests
{
    private const int Capacity = 200, Fresh = 6;

    private static readonly int[] s_prompts = [1, 17, 150, 64, 16, 90];

    [Theory]
    [InlineData("cpu", "fp32", "a_tied"), InlineData("cpu", "fp32", "b_untied"), InlineData("cpu", "bf16", "a_tied"), InlineData("cpu", "bf16", "b_untied")]
    [InlineData("hostcuda", "bf16", "a_tied"), InlineData("hostcuda", "bf16", "b_untied")]
    public void Logits_are_the_same_bits_alone_in_a_crowd_and_in_pieces(string device, string type, string name)
    {
        using ComputeStream stream = device == "cpu" ? new CpuStream(2) : new CudaStream(KernelDevices.HostCuda);
        if (type == "fp32")
        {
            Same<float>(stream, name);
        }
        else
        {
            Same<BFloat16>(stream, name);
        }
    }

    [Theory, InlineData("a_tied"), InlineData("b_untied")]
    public void A_device_gives_the_logits_of_the_CPU_within_rounding(string name)
    {
        var directory = Goldens.Model(name);
        using var cpu = new CpuStream(2);
        using var cuda = new CudaStream(KernelDevices.HostCuda);
        using var on = HfWeights.Open<BFloat16>(directory, cpu);
        using var off = HfWeights.Open<BFloat16>(directory, cuda);
        using var expected = new PassSession<BFloat16>(cpu, new Qwen2<BFloat16>(on), 1, Capacity, promptRows: 32);
        using var actual = new PassSession<BFloat16>(cuda, new Qwen2<BFloat16>(off), 1, Capacity, promptRows: 32);

        // Each errs from the truth by at most twice PyTorch's own bf16 error in rms (Qwen2GoldenTests, the self-test), so they differ by four.
        using var info = JsonDocument.Parse(File.ReadAllBytes(Goldens.Require(name, "info.json")));
        var peer = info.RootElement.GetProperty("packed").GetProperty("bf16").GetProperty("full_bf16").GetProperty("logits_rms_diff").GetDouble();
        for (var pass = 0; pass <= Fresh; pass++)
        {
            var tokens = Tokens(pass == 0 ? 29 : 1, pass, on.Parameters.Config.VocabSize);
            var pairs = expected.Pass(pass == 0, (0, tokens))[0].Zip(actual.Pass(pass == 0, (0, tokens))[0]);
            var rms = Math.Sqrt(pairs.Average(p => Math.Pow((double)p.First - p.Second, 2)));
            Assert.True(rms <= 4 * peer, $"pass {pass}: rms {rms:E2}, bound {4 * peer:E2}");
        }
    }

    [Fact]
    public void A_pass_allocates_nothing_and_tokens_must_be_the_models()
    {
        using var stream = new CpuStream(2);
        using var weights = HfWeights.Open<float>(Goldens.Model("a_tied"), stream);
        using var session = new PassSession<float>(stream, new Qwen2<float>(weights), 2, Capacity, promptRows: 32);
        (int, int[])[] prompts = [(0, Tokens(20, 1, 50)), (1, Tokens(12, 2, 50))], next = [(0, [3]), (1, [4])];
        for (var round = 0; round < 3; round++)                 // the first ones compile
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            session.Run(prompt: true, prompts);
            session.Run(prompt: false, next);
            session.Run(prompt: false, next);
            Assert.True(round == 0 || GC.GetAllocatedBytesForCurrentThread() == before, $"{GC.GetAllocatedBytesForCurrentThread() - before} bytes");
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => session.Run(prompt: false, (0, [weights.Parameters.Config.VocabSize])));
    }

    private static void Same<T>(ComputeStream stream, string name)
        where T : unmanaged
    {
        const int promptRows = 32;
        using var weights = HfWeights.Open<T>(Goldens.Model(name), stream);
        var model = new Qwen2<T>(weights);
        var prompts = s_prompts.Select((n, i) => Tokens(n, i, model.Config.VocabSize)).ToArray();
        var next = Enumerable.Range(0, Fresh).Select(step => prompts.Select((_, i) => Tokens(1, (31 * step) + i, model.Config.VocabSize)).ToArray()).ToArray();

        // Each alone, its prompt in passes as full as they get.
        var expected = new List<float[]>[prompts.Length];
        for (var i = 0; i < prompts.Length; i++)
        {
            using var alone = new PassSession<T>(stream, model, 1, Capacity, promptRows);
            expected[i] = [];
            foreach (var chunk in prompts[i].Chunk(promptRows))
            {
                expected[i] = [alone.Pass(prompt: true, (0, chunk))[0]];
            }

            expected[i].AddRange(next.Select(tokens => alone.Pass(prompt: false, (0, tokens[i]))[0]));
            Assert.All(expected[i], logits => Assert.DoesNotContain(logits, float.IsNaN));
        }

        // All together, prompts in pieces of any size, at other pages and rows, decode passes of some of them.
        using var crowd = new PassSession<T>(stream, model, prompts.Length, Capacity, promptRows, salt: 1);
        var random = new Random(7);
        var read = new int[prompts.Length];
        while (read.Zip(prompts).Any(p => p.First < p.Second.Length))
        {
            var (parts, room) = (new List<(int Sequence, int[] Tokens)>(), promptRows);
            foreach (var i in Enumerable.Range(0, prompts.Length).OrderBy(_ => random.Next()).Where(i => read[i] < prompts[i].Length))
            {
                var count = Math.Min(random.Next(0, 20), Math.Min(room, prompts[i].Length - read[i]));
                if (count > 0)
                {
                    parts.Add((i, prompts[i][read[i]..(read[i] + count)]));
                    (read[i], room) = (read[i] + count, room - count);
                }
            }

            if (parts.Count > 0)
            {
                var logits = crowd.Pass(prompt: true, [.. parts]);
                for (var p = 0; p < parts.Count; p++)
                {
                    if (read[parts[p].Sequence] == prompts[parts[p].Sequence].Length)
                    {
                        Assert.Equal(expected[parts[p].Sequence][0], logits[p]);
                    }
                }
            }
        }

        for (var step = 0; step < Fresh; step++)
        {
            int[] order = [.. Enumerable.Range(0, prompts.Length).OrderBy(_ => random.Next())];
            foreach (var group in (int[][])[order[..(step % prompts.Length)], order[(step % prompts.Length)..]])
            {
                if (group.Length > 0)
                {
                    var logits = crowd.Pass(prompt: false, [.. group.Select(i => (i, next[step][i]))]);
                    for (var p = 0; p < group.Length; p++)
                    {
                        Assert.Equal(expected[group[p]][1 + step], logits[p]);
                    }
                }
            }
        }

        // A sequence that lost its pages reads its prompt again and is fed its tokens again, while others go on.
        crowd.Restart(1);
        Assert.Equal(expected[1][0], crowd.Pass(prompt: true, (1, prompts[1]))[0]);
        for (var step = 0; step < Fresh; step++)
        {
            Assert.Equal(expected[1][1 + step], crowd.Pass(prompt: false, (0, [1]), (1, next[step][1]))[1]);
        }
    }

    private static int[] Tokens(int count, int salt, int vocabulary) => [.. Enumerable.Range(0, count).Select(i => ((i * 37) + (salt * 11) + 5) % vocabulary)];
}
