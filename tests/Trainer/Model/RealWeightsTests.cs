using System.Text.Json;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Model;

/// <summary>
/// Published weights against a float64 forward pass in plain Python (SOURCE.md there). The bound on a logit: roundings on the longest path
/// add as a random walk, √(layers · (2D + F)) terms of 2^-24 of the largest logit, and the largest of some hundred takes four times that.
/// </summary>
public sealed class RealWeightsTests
{
    private static readonly string[] s_verl = ["tiny-weights", "verl-arithmetic-llama"];
    private static readonly string[] s_dreams = ["tiny-weights", "aidreams260K"];

    [Fact]
    public void A_Hugging_Face_llama_in_bfloat16_gives_the_float64_logits()
    {
        var directory = Goldens.RequireData(s_verl);
        var config = Qwen2Config.Load(directory);
        using var weights = new ParameterSet<float>("weights", new Qwen2Parameters(config));
        weights.Arena.Allocate();
        HfWeights.Load(directory, weights);                     // bfloat16 widens exactly
        using var model = new Session<float>(weights, 32);
        foreach (var golden in Json(directory))
        {
            var ids = Ints(golden, "input_ids");
            double[][] expected = [.. golden.GetProperty("logits").EnumerateArray().Select(Doubles)];
            var bound = Bound(config, expected.Max(r => r.Max(Math.Abs)));
            var nll = model.Nll(ids);
            Assert.InRange(nll - golden.GetProperty("mean_next_token_nll").GetDouble(), -2 * bound, 2 * bound);    // a difference of two
            Close(model.TeacherForced(ids, prompt: 1), expected, bound);
            Close(model.TeacherForced(ids, prompt: ids.Length / 2), expected[((ids.Length / 2) - 1)..], bound);
        }
    }

    [Fact]
    public void The_same_llama_computed_in_bfloat16_stays_within_its_roundings()
    {
        var directory = Goldens.RequireData(s_verl);
        var config = Qwen2Config.Load(directory);
        using var weights = new ParameterSet<BFloat16>("weights", new Qwen2Parameters(config));
        weights.Arena.Allocate();
        HfWeights.Load(directory, weights);                     // as stored
        using var model = new Session<BFloat16>(weights, 32);
        double error = 0, size = 0;
        foreach (var golden in Json(directory))
        {
            double[][] expected = [.. golden.GetProperty("logits").EnumerateArray().Select(Doubles)];
            var actual = model.TeacherForced(Ints(golden, "input_ids"), prompt: 1);
            for (var t = 0; t < expected.Length; t++)
            {
                error += expected[t].Zip(actual[t], (e, a) => Math.Pow(e - a, 2)).Sum();
                size += expected[t].Sum(e => e * e);
            }
        }

        // Ten stores a layer on the way to a logit, each within ±2^-9 of the value, as a walk; a residual sum keeps every one of them.
        var bound = 2 * Math.ScaleB(1, -9) * Math.Sqrt(10 * config.NumHiddenLayers);
        var relative = Math.Sqrt(error / size);
        Assert.True(relative <= bound && relative > 1e-5, $"relative rms {relative:E2}, bound {bound:E2}");
    }

    [Fact]
    public void A_trained_llama_writes_the_words_that_it_wrote_elsewhere()
    {
        var directory = Goldens.RequireData(s_dreams);
        using var weights = Llama2C(Path.Combine(directory, "aidreams260K.bin"));
        var config = weights.Parameters.Config;
        using var model = new Session<float>(weights, config.MaxPositionEmbeddings);
        using var engine = new PagedEngine<float>(
            model.Stream, new Qwen2<float>(weights), null, new DecodeEngineOptions { Slots = 3, Capacity = config.MaxPositionEmbeddings });
        var goldens = Json(directory);
        var longest = goldens.Max(g => g.GetProperty("greedy_ids").GetArrayLength());
        var completions = engine.Generate(
            [.. goldens.Select(g => Ints(g, "prompt_ids"))], new GenerateOptions(longest, [], []), null,
            TestContext.Current.CancellationToken);
        for (var i = 0; i < goldens.Count; i++)
        {
            var (prompt, expected) = (Ints(goldens[i], "prompt_ids"), Doubles(goldens[i].GetProperty("logits_after_prompt")));
            var bound = Bound(config, expected.Max(Math.Abs));
            Assert.True(goldens[i].GetProperty("min_top1_margin").GetDouble() > 2 * bound);      // so no token may flip
            Close(model.TeacherForced(prompt, prompt.Length), [expected], bound);
            Assert.Equal(Ints(goldens[i], "greedy_ids"), completions[i].Tokens.Take(goldens[i].GetProperty("greedy_ids").GetArrayLength()));
        }
    }

    private static double Bound(Qwen2Config config, double largest) =>
        4 * Math.ScaleB(1, -24) * Math.Sqrt(config.NumHiddenLayers * ((2 * config.HiddenSize) + config.IntermediateSize)) * largest;

    private static List<JsonElement> Json(string directory) =>
        [.. JsonDocument.Parse(File.ReadAllBytes(Path.Combine(directory, "golden.json"))).RootElement.EnumerateArray()];

    private static int[] Ints(JsonElement json, string key) => [.. json.GetProperty(key).EnumerateArray().Select(v => v.GetInt32())];

    private static double[] Doubles(JsonElement json) => [.. json.EnumerateArray().Select(v => v.GetDouble())];

    private static void Close(List<float[]> actual, double[][] expected, double bound)
    {
        Assert.Equal(expected.Length, actual.Count);
        for (var t = 0; t < expected.Length; t++)
        {
            for (var v = 0; v < expected[t].Length; v++)
            {
                if (!(Math.Abs(actual[t][v] - expected[t][v]) <= bound))
                {
                    Assert.Fail($"row {t}, logit {v} is {actual[t][v]:R}, expected {expected[t][v]:R} within {bound:E2}");
                }
            }
        }
    }

    /// <summary>
    /// The legacy format of karpathy/llama2.c: seven ints, then float tensors by kind, all layers of a kind together. Its RoPE turns
    /// neighbours (2i, 2i + 1); ours turns halves (i, i + H/2), so the rows of q and k of each head change places.
    /// </summary>
    private static ParameterSet<float> Llama2C(string path)
    {
        using var reader = new BinaryReader(File.OpenRead(path));
        int[] header = [.. Enumerable.Range(0, 7).Select(_ => reader.ReadInt32())];
        var (d, layers, heads) = (header[0], header[2], header[3]);
        var config = new Qwen2Config
        {
            ModelType = "llama", HiddenSize = d, IntermediateSize = header[1], NumHiddenLayers = layers, NumAttentionHeads = heads,
            NumKeyValueHeads = header[4], HeadDim = d / heads, VocabSize = header[5], MaxPositionEmbeddings = header[6], RmsNormEps = 1e-5,
            RopeTheta = 1e4, TieWordEmbeddings = true, AttentionBias = false,
        };
        var weights = new ParameterSet<float>("weights", new Qwen2Parameters(config));
        weights.Arena.Allocate();
        var tensors = weights.ByName.ToDictionary(p => p.Parameter.Name, p => p.Tensor);
        Read("model.embed_tokens.weight");
        foreach (var kind in (string[])["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"])
        {
            for (var l = 0; l < layers; l++)
            {
                Read($"model.layers.{l}.{kind}.weight");
            }
        }

        Read("model.norm.weight");
        return weights;

        void Read(string name)
        {
            var tensor = tensors[name];
            for (var row = 0; row < tensor.Shape.Rows; row++)
            {
                var inHead = row % config.HeadDim;
                var turned = name.Contains("q_proj") || name.Contains("k_proj");
                var target = tensor.Row(turned ? row - inHead + (inHead / 2) + (inHead % 2 * config.HeadDim / 2) : row);
                foreach (ref var value in target)
                {
                    value = reader.ReadSingle();
                }
            }
        }
    }

    private sealed class Session<T> : IDisposable
        where T : unmanaged
    {
        private readonly Activations<T> _activations;
        private readonly PassSession<T> _passes;
        private readonly Qwen2<T> _model;

        public Session(ParameterSet<T> weights, int tokens)
        {
            _model = new Qwen2<T>(weights);
            _activations = new Activations<T>(_model.Config, tokens, 8, Recompute.None, Stream, training: false);
            _activations.Allocate();
            _passes = new PassSession<T>(Stream, _model, 1, tokens, promptRows: tokens);
        }

        public CpuStream Stream { get; } = new(2);

        /// <summary>Mean −log p of every token but the first.</summary>
        public double Nll(int[] ids)
        {
            var batch = new PackedBatch(ids.Length, 1);
            batch.Add(0, new TokenizedSample("sequence", ids, new TokenSpan(1, ids.Length)));
            return _model.Loss(Stream, _activations, batch) / batch.LossTokens;
        }

        /// <summary>Logits after the prompt and after each token behind it, through the cache.</summary>
        public List<float[]> TeacherForced(int[] ids, int prompt)
        {
            var rows = new List<float[]>();
            _passes.Restart(0);
            rows.Add(_passes.Pass(prompt: true, (0, ids[..prompt]))[0]);
            for (var t = prompt; t < ids.Length; t++)
            {
                rows.Add(_passes.Pass(prompt: false, (0, [ids[t]]))[0]);
            }

            return rows;
        }

        public void Dispose()
        {
            _activations.Dispose();
            _passes.Dispose();
            Stream.Dispose();
        }
    }
}
