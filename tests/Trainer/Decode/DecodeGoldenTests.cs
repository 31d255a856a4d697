using System.Text.Json;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Tests.Trainer.Model;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Decode;

/// <summary>
/// Greedy decoding against transformers, token for token. Two correct float32 runs may part only where the two best logits are nearly
/// equal: each logit of ours and of theirs errs by a few times e (PyTorch's float32 to float64), so a margin above 8 · e must not flip.
/// </summary>
public sealed class DecodeGoldenTests
{
    private const double Flip = 8;

    public static TheoryData<string, string> Weights
    {
        get
        {
            var data = new TheoryData<string, string>();
            foreach (var model in Goldens.Models)
            {
                data.Add(model, "initial");
                data.Add(model, "after_train_padded");
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Weights))]
    public void With_a_cache_all_prompts_at_once_and_one_by_one(string name, string weights)
    {
        using var golden = new Case<float>(name, weights);
        var all = golden.Generate(golden.Prompts, slots: golden.Prompts.Count);
        var compared = 0;
        for (var i = 0; i < golden.Prompts.Count; i++)
        {
            compared += golden.Check(i, all[i], "at once");
            golden.Check(i, golden.Generate([golden.Prompts[i]], slots: 1)[0], "alone");
            Assert.Equal((FinishReason.Length, ""), (all[i].Finish, all[i].Text));
        }

        Assert.True(compared > golden.Runs.Sum(r => r.NewIds.Length) / 2, $"only {compared} tokens were compared");
    }

    [Theory]
    [MemberData(nameof(Weights))]
    public void Without_a_cache(string name, string weights)
    {
        using var golden = new Case<float>(name, weights);
        for (var i = 0; i < golden.Runs.Count; i++)
        {
            var sequence = golden.Prompts[i].ToList();
            for (var step = 0; step < golden.Limit; step++)
            {
                sequence.Add(golden.ArgmaxAfter([.. sequence]));
            }

            golden.Check(i, new Completion(sequence.ToArray()[golden.Prompts[i].Length..], "", FinishReason.Length), "no cache");
        }
    }

    [Theory]
    [MemberData(nameof(Weights))]
    public void Slots_are_refilled_as_they_fall_free(string name, string weights)
    {
        using var golden = new Case<float>(name, weights);
        int[] prompts = [.. Enumerable.Range(0, 3 * golden.Prompts.Count).Select(i => i % golden.Prompts.Count)];

        // A token that some completions hold early and others late or never makes them end at different times.
        var end = golden.Runs.SelectMany(r => r.NewIds.Skip(2).Take(20)).Distinct()
            .MaxBy(t => golden.Runs.Select(r => Array.IndexOf(r.NewIds, t)).Distinct().Count());
        foreach (var slots in (int[])[1, 2, 4])
        {
            var finished = new List<int>();
            var actual = golden.Generate([.. prompts.Select(p => golden.Prompts[p])], slots, [end], finished);
            Assert.Equal(Enumerable.Range(0, prompts.Length), finished.Order());
            for (var i = 0; i < prompts.Length; i++)
            {
                golden.Check(prompts[i], actual[i], $"{slots} slots", end);
            }
        }
    }

    /// <summary>
    /// In bfloat16 one logit errs by up to d (PyTorch's full-bf16 run to float32), cached and uncached alike: the token that the cached run
    /// took must lie within 2 · d of the best logit that one uncached pass over the same sequence finds at that place.
    /// </summary>
    [Theory]
    [MemberData(nameof(Weights))]
    public void Bf16_with_a_cache_takes_what_it_would_without(string name, string weights)
    {
        using var golden = new Case<BFloat16>(name, weights);
        var all = golden.Generate(golden.Prompts, slots: golden.Prompts.Count);
        var peer = golden.Model.Info.GetProperty("packed").GetProperty("bf16").GetProperty("full_bf16");
        var bound = 2 * peer.GetProperty("logits_maxdiff").GetDouble();
        for (var i = 0; i < all.Length; i++)
        {
            int[] sequence = [.. golden.Prompts[i], .. all[i].Tokens];
            golden.Forward(sequence);
            var logits = golden.Model.Logits(sequence.Length);
            var width = golden.Model.Config.VocabSize;
            for (var at = golden.Prompts[i].Length; at < sequence.Length; at++)
            {
                var row = logits.AsSpan((at - 1) * width, width);
                var best = row[0];
                foreach (var logit in row)
                {
                    best = Math.Max(best, logit);
                }

                var taken = row[sequence[at]];
                Assert.True(taken >= best - bound, $"prompt {i}, token {at}: {taken} against {best}, bound {bound:E2}");
            }
        }
    }

    private sealed record Run(int[] Prompt, int[] NewIds, double[] Margins);

    private sealed class Case<T> : IDisposable
        where T : unmanaged
    {
        private readonly double _flip;

        public Case(string name, string weights)
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(Goldens.Require(name, "generate.json")));
            var runs = json.RootElement.GetProperty("runs").EnumerateArray().Where(r => r.GetProperty("weights").GetString() == weights);
            Runs = [.. runs.Select(r => new Run(Ints(r, "prompt"), Ints(r, "new_ids"), Margins(r)))];
            if (Runs.Count == 0)
            {
                Assert.Skip($"generate.json of {name} has no run of the weights {weights}");
            }

            Limit = Runs.Max(r => r.NewIds.Length);
            Longest = Runs.Max(r => r.Prompt.Length) + Limit;
            Model = new GoldenModel<T>(name, Longest);
            if (weights != "initial")
            {
                Model.Load(Goldens.Require(name, "train.padded.final.safetensors"));
            }

            _flip = Flip * Model.Info.GetProperty("packed").GetProperty("f32_vs_f64_logits_maxdiff").GetDouble();
        }

        /// <summary>One worker: the same bits as any number, and no barrier to wait at.</summary>
        public CpuStream Alone { get; } = new(1);

        public GoldenModel<T> Model { get; }

        public List<Run> Runs { get; }

        public int Limit { get; }

        public int Longest { get; }

        public List<int[]> Prompts => [.. Runs.Select(r => r.Prompt)];

        public Completion[] Generate(List<int[]> prompts, int slots, int[]? ends = null, List<int>? finished = null)
        {
            using var engine = new PagedEngine<T>(
                slots > 2 ? Model.Stream : Alone, Model.Model, null, new DecodeEngineOptions { Slots = slots, Capacity = Longest + 1 });
            var options = new GenerateOptions(Limit, ends ?? [], []);
            return engine.Generate(prompts, options, (index, _) => finished?.Add(index), TestContext.Current.CancellationToken);
        }

        public void Forward(int[] sequence)
        {
            var batch = new PackedBatch(sequence.Length, 1);
            batch.Add(0, new TokenizedSample("sequence", sequence));
            Model.Model.Forward(Alone, Model.Activations, batch);
        }

        /// <summary>The first of the largest logits after a sequence, by a plain loop over one product of the last row.</summary>
        public int ArgmaxAfter(int[] sequence)
        {
            Forward(sequence);
            using var arena = new Arena("last logits");
            var logits = arena.Declare<T>(1, Model.Config.VocabSize);
            arena.Allocate();
            Matmul.Forward(
                Alone, Model.Activations.FinalNorm.Rows(sequence.Length - 1, 1),
                Model.Optimizer.Weights[Model.Optimizer.Weights.Parameters.Head], default, logits);
            var best = 0;
            for (var v = 1; v < Model.Config.VocabSize; v++)
            {
                best = Lanes.Get(ref logits.Origin, (nuint)v) > Lanes.Get(ref logits.Origin, (nuint)best) ? v : best;
            }

            return best;
        }

        /// <summary>Equal up to a step whose recorded margin is within rounding; gives the tokens compared.</summary>
        public int Check(int run, Completion actual, string how, int end = -1)
        {
            var expected = Runs[run].NewIds;
            var stop = Array.IndexOf(expected, end);
            for (var i = 0; i < expected.Length; i++)
            {
                if (i == stop)
                {
                    Assert.Equal((i, FinishReason.EndToken), (actual.Tokens.Length, actual.Finish));
                    return i;
                }

                if (i >= actual.Tokens.Length || actual.Tokens[i] != expected[i])
                {
                    Assert.True(
                        Runs[run].Margins[i] <= _flip,
                        $"{how}, prompt {run}, step {i}: {string.Join(' ', actual.Tokens.Take(i + 1))}; "
                        + $"expected {expected[i]} by {Runs[run].Margins[i]:E2}");
                    return i;
                }
            }

            Assert.Equal((Limit, FinishReason.Length), (actual.Tokens.Length, actual.Finish));
            return expected.Length;
        }

        public void Dispose()
        {
            Model.Dispose();
            Alone.Dispose();
        }

        private static double[] Margins(JsonElement run) => [.. run.GetProperty("top2_margin").EnumerateArray().Select(m => m.GetDouble())];

        private static int[] Ints(JsonElement run, string key) => [.. run.GetProperty(key).EnumerateArray().Select(i => i.GetInt32())];
    }
}
