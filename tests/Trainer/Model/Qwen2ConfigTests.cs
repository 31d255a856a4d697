using System.Text.Json.Nodes;
using FsCheck;
using FsCheck.Fluent;
using Xunit;
using Z1Coder.Tests.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Model;

public sealed class Qwen2ConfigTests : IDisposable
{
    private const string Coder7B = """
        {
          "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
          "hidden_act": "silu", "hidden_size": 3584, "initializer_range": 0.02, "intermediate_size": 18944,
          "max_position_embeddings": 32768, "max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 28,
          "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
          "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.44.0", "use_cache": true,
          "use_mrope": false, "use_sliding_window": false, "vocab_size": 152064
        }
        """;

    private static readonly Qwen2Config s_coder7B = new()
    {
        ModelType = "qwen2", HiddenSize = 3584, NumHiddenLayers = 28, NumAttentionHeads = 28, NumKeyValueHeads = 4, HeadDim = 128,
        IntermediateSize = 18944, VocabSize = 152064, MaxPositionEmbeddings = 32768, RmsNormEps = 1e-6, RopeTheta = 1e6,
        TieWordEmbeddings = false, AttentionBias = true,
    };

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_published_layout_reads() => Assert.Equal(s_coder7B, Load(Coder7B));

    [Theory]
    [InlineData("""{"rope_theta":null,"rope_parameters":{"rope_type":"default","rope_theta":1000000.0}}""")]
    [InlineData("""{"rope_parameters":{"rope_theta":1000000}}""")]
    [InlineData("""{"rope_scaling":null}""")]
    [InlineData("""{"rope_scaling":{"type":"default"}}""")]
    [InlineData("""{"attention_bias":true}""")]
    [InlineData("""{"head_dim":128}""")]
    [InlineData("""{"head_dim":null,"quantization_config":null}""")]
    [InlineData("""{"use_sliding_window":true,"sliding_window":null}""")]
    [InlineData("""{"use_sliding_window":true,"max_window_layers":28}""")]
    [InlineData("""{"partial_rotary_factor":1.0}""")]
    [InlineData("""{"some_later_key":[1,2,{"x":null}]}""")]
    public void Other_spellings_of_the_same_model_read(string changes) => Assert.Equal(s_coder7B, Load(With(Coder7B, changes)));

    [Fact]
    public void A_vocabulary_of_any_size_and_a_head_dimension_of_its_own()
    {
        Assert.Equal(151_667, Load(With(Coder7B, """{"vocab_size":151667}""")).VocabSize);
        Assert.Equal(64, Load(With(Coder7B, """{"head_dim":64}""")).HeadDim);
    }

    [Theory]
    [InlineData("""{"model_type":"gpt2"}""", "model_type is \"gpt2\"; supported are \"qwen2\"")]
    [InlineData("""{"model_type":"qwen3"}""", "model_type is \"qwen3\"")]
    [InlineData("""{"model_type":7}""", "model_type is not a string")]
    [InlineData("""{"model_type":"llama","attention_bias":true}""", "attention_bias is true")]
    [InlineData("""{"attention_bias":false}""", "attention_bias is false")]
    [InlineData("""{"attention_bias":"yes"}""", "attention_bias is \"yes\"; it must be true or false")]
    [InlineData("""{"mlp_bias":true}""", "mlp_bias is true")]
    [InlineData("""{"hidden_act":"gelu"}""", "hidden_act is \"gelu\"")]
    [InlineData("""{"use_sliding_window":true,"max_window_layers":21}""", "use_sliding_window is true")]
    [InlineData("""{"layer_types":["full_attention","sliding_attention"]}""", "layer_types names \"sliding_attention\"")]
    [InlineData("""{"layer_types":["full_attention"]}""", "layer_types has 1 entries, but num_hidden_layers is 28")]
    [InlineData("""{"rope_scaling":{"type":"yarn","factor":4.0,"original_max_position_embeddings":32768}}""", "rope_scaling asks for the rope type \"yarn\"")]
    [InlineData("""{"rope_scaling":{"factor":4.0}}""", "rope_scaling asks for the rope type \"unnamed\"")]
    [InlineData("""{"rope_scaling":4}""", "rope_scaling is 4; it must be an object or null")]
    [InlineData("""{"rope_parameters":{"rope_type":"llama3","rope_theta":1000000.0}}""", "rope_parameters asks for the rope type \"llama3\"")]
    [InlineData("""{"rope_parameters":{"rope_theta":10000}}""", "rope_theta is 1000000, but rope_parameters.rope_theta is 10000")]
    [InlineData("""{"rope_parameters":{"rope_theta":-1}}""", "rope_parameters.rope_theta is -1")]
    [InlineData("""{"partial_rotary_factor":0.5}""", "partial_rotary_factor is not 1")]
    [InlineData("""{"quantization_config":{"bits":4}}""", "quantization_config is present")]
    [InlineData("""{"num_attention_heads":0}""", "num_attention_heads is 0; it must be a whole number from 1")]
    [InlineData("""{"num_key_value_heads":-4}""", "num_key_value_heads is -4")]
    [InlineData("""{"num_key_value_heads":3}""", "num_key_value_heads is 3, which does not divide num_attention_heads 28")]
    [InlineData("""{"num_key_value_heads":56}""", "num_key_value_heads is 56, which does not divide")]
    [InlineData("""{"hidden_size":3585}""", "hidden_size is 3585, not a multiple of num_attention_heads 28")]
    [InlineData("""{"hidden_size":84}""", "head dimension of 3; rotary embedding needs an even one")]
    [InlineData("""{"head_dim":127}""", "head_dim gives a head dimension of 127")]
    [InlineData("""{"head_dim":2000000000}""", "head_dim is 2000000000, too large")]
    [InlineData("""{"vocab_size":99999999999}""", "vocab_size is 99999999999")]
    [InlineData("""{"vocab_size":1.5}""", "vocab_size is 1.5")]
    [InlineData("""{"intermediate_size":"8"}""", "intermediate_size is \"8\"")]
    [InlineData("""{"intermediate_size":null}""", "intermediate_size is null")]
    [InlineData("""{"num_hidden_layers":[]}""", "num_hidden_layers is []")]
    [InlineData("""{"rms_norm_eps":0}""", "rms_norm_eps is 0; it must be a number above 0")]
    [InlineData("""{"rms_norm_eps":1e999}""", "rms_norm_eps is 1e999")]
    [InlineData("""{"rope_theta":-10000}""", "rope_theta is -10000")]
    [InlineData("""{"tie_word_embeddings":1}""", "tie_word_embeddings is 1")]
    public void What_is_not_supported_is_refused_by_its_key(string changes, string says)
    {
        var message = Assert.Throws<InvalidInputException>(() => Load(With(Coder7B, changes))).Message;
        Assert.Contains(says, message);
        Assert.StartsWith(_folder["config.json"], message);
        Assert.DoesNotContain('\n', message);
    }

    [Theory]
    [InlineData("model_type")]
    [InlineData("hidden_size")]
    [InlineData("num_hidden_layers")]
    [InlineData("num_attention_heads")]
    [InlineData("num_key_value_heads")]
    [InlineData("intermediate_size")]
    [InlineData("vocab_size")]
    public void A_missing_key_is_named(string key)
    {
        var node = JsonNode.Parse(Coder7B)!.AsObject();
        node.Remove(key);
        Assert.Contains($"{key} is missing", Assert.Throws<InvalidInputException>(() => Load(node.ToJsonString())).Message);
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("{")]
    [InlineData("null")]
    [InlineData("""{"model_type":"qwen2","model_type":"llama"}""")]
    [InlineData("""{"model_type":"\ud800"}""")]
    public void What_is_no_object_is_refused(string json) => Assert.Throws<InvalidInputException>(() => Load(json));

    [Fact]
    public void No_file_is_a_sentence() =>
        Assert.Contains("cannot read", Assert.Throws<InvalidInputException>(() => Qwen2Config.Load(_folder["absent"])).Message);

    [Fact]
    public void A_mutated_file_reads_or_gets_one_sentence()
    {
        var edits = Gen.Choose(0, Coder7B.Length - 1).SelectMany(_ => Gen.Choose(0, 255), (at, value) => (at, (byte)value)).ListOf().Resize(4);
        Prop.ForAll(edits.ToArbitrary(), list =>
        {
            var bytes = System.Text.Encoding.UTF8.GetBytes(Coder7B);
            foreach (var (at, value) in list)
            {
                bytes[at] = value;
            }

            _folder.Write("config.json", bytes);
            try
            {
                var config = Qwen2Config.Load(_folder.Path);
                return config.NumAttentionHeads % config.NumKeyValueHeads == 0 && config.HeadDim % 2 == 0 && config.VocabSize > 0;
            }
            catch (InvalidInputException e)
            {
                return !e.Message.Contains('\n');
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(2000));
    }

    public static TheoryData<string> Models => [.. Goldens.Models];

    [Theory, MemberData(nameof(Models))]
    public void Both_layouts_of_a_golden_model_are_the_same_model(string model)
    {
        var newer = Qwen2Config.Load(Goldens.Model(model));
        File.Copy(Goldens.Require(model, "config.v4.json"), _folder["config.json"]);
        Assert.Equal(newer, Qwen2Config.Load(_folder.Path));
        Assert.Equal(1e6, newer.RopeTheta);
    }

    [Fact]
    public void Llama_is_the_same_block_without_bias()
    {
        var config = Qwen2Config.Load(Goldens.RequireData("tiny-weights", "verl-arithmetic-llama"));
        Assert.Equal(("llama", 128, 4, 4, 4, 32, 344, 16), (config.ModelType, config.HiddenSize, config.NumHiddenLayers, config.NumAttentionHeads,
            config.NumKeyValueHeads, config.HeadDim, config.IntermediateSize, config.VocabSize));
        Assert.False(config.AttentionBias);
        Assert.Equal([1], Qwen2Config.LoadEosTokenIds(Goldens.RequireData("tiny-weights", "verl-arithmetic-llama")));
    }

    [Fact]
    public void What_is_saved_loads_as_the_same_model()
    {
        foreach (var config in (Qwen2Config[])[s_coder7B, s_coder7B with { HeadDim = 64, TieWordEmbeddings = true, RopeTheta = 1e4, RmsNormEps = 1e-5 },
            s_coder7B with { ModelType = "llama", AttentionBias = false }])
        {
            config.Save(_folder.Path, "bfloat16", [151643, 151645], padTokenId: 151643);
            Assert.Equal(config, Qwen2Config.Load(_folder.Path));
            Assert.Equal([151643, 151645], Qwen2Config.LoadEosTokenIds(_folder.Path));
            Assert.Contains(".0,", File.ReadAllText(_folder["config.json"]).Split("rope_theta")[1].Split('\n')[0]);
            Assert.Contains("\"torch_dtype\": \"bfloat16\"", File.ReadAllText(_folder["config.json"]));
            config.Save(_folder.Path, "float32", []);
            Assert.Empty(Qwen2Config.LoadEosTokenIds(_folder.Path));
        }
    }

    [Fact]
    public void Fingerprints_tell_models_apart()
    {
        Assert.NotEqual(s_coder7B.Fingerprint, (s_coder7B with { RopeTheta = 1e4 }).Fingerprint);
        Assert.Equal(s_coder7B.Fingerprint, Load(Coder7B).Fingerprint);
    }

    private static string With(string json, string changes)
    {
        // textual, so that numbers reach the reader as they are spelt here
        var node = JsonNode.Parse(json)!.AsObject();
        foreach (var (key, value) in JsonNode.Parse(changes)!.AsObject())
        {
            node[key] = value?.DeepClone();
        }

        return node.ToJsonString();
    }

    private Qwen2Config Load(string json)
    {
        _folder.Write("config.json", json);
        return Qwen2Config.Load(_folder.Path);
    }
}
