using System.Text.Json;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Checkpoints;

public sealed class HfDirectoryTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, long> ModelsAndShardSizes()
    {
        var data = new TheoryData<string, long>();
        foreach (var model in Goldens.Models)
        {
            data.Add(model, HfDirectory.DefaultShardBytes);
            data.Add(model, 200_000);
            data.Add(model, 1);
        }

        return data;
    }

    [Theory, MemberData(nameof(ModelsAndShardSizes))]
    public void A_saved_model_has_the_same_bytes(string name, long shardBytes)
    {
        using var golden = HfDirectory.Open(Goldens.Model(name));
        Save(golden, _folder["out"], shardBytes);
        using var saved = HfDirectory.Open(_folder["out"]);
        Assert.Equal(golden.Config, saved.Config);
        Assert.Equal(golden.Names.Order(), saved.Names.Order());
        foreach (var tensor in golden.Names)
        {
            Assert.Equal(golden[tensor].ToString(), saved[tensor].ToString());
            Assert.Equal(Bytes(golden, tensor), Bytes(saved, tensor));
        }

        var shards = Directory.GetFiles(_folder["out"], "*.safetensors");
        Assert.Equal(shardBytes == 1 ? golden.Names.Count : shardBytes == 200_000 ? shards.Length : 1, shards.Length);
        Assert.Equal(shards.Length > 1, File.Exists(_folder["out/model.safetensors.index.json"]));
        if (shards.Length > 1)
        {
            using var index = JsonDocument.Parse(File.ReadAllText(_folder["out/model.safetensors.index.json"]));
            Assert.Equal(golden.Names.Sum(n => golden[n].Bytes), index.RootElement.GetProperty("metadata").GetProperty("total_size").GetInt64());
            var largest = Math.Max(shardBytes, golden.Names.Max(n => golden[n].Bytes));
            Assert.All(shards, s => Assert.InRange(new FileInfo(s).Length, 1, largest + 10_000));
        }

        Assert.False(Directory.Exists(_folder["out.tmp"]) || Directory.Exists(_folder["out.old"]));
    }

    [Fact]
    public void Weights_pass_through_bfloat16_and_back_with_one_rounding()
    {
        using var golden = HfDirectory.Open(Goldens.Model("a_tied"));
        const string Name = "model.layers.0.mlp.gate_proj.weight";
        using var arena = new Arena("test");
        var floats = arena.Declare<float>(176, 64);
        var brains = arena.Declare<BFloat16>(176, 64);
        arena.Allocate();
        golden.Read(Name, floats);
        golden.Read(Name, brains);
        HfDirectory.Save(
            _folder["out"], golden.Config, [HfTensor.From("a", floats, SafetensorDtype.BF16), HfTensor.From("b", brains, SafetensorDtype.BF16),
            HfTensor.From("c", brains, SafetensorDtype.F32)], null);
        using var saved = HfDirectory.Open(_folder["out"]);
        Assert.Contains("\"torch_dtype\": \"bfloat16\"", File.ReadAllText(_folder["out/config.json"]));
        var expected = floats.Span.ToArray().Select(v => (float)(BFloat16)v).ToArray();
        foreach (var name in new[] { "a", "b", "c" })
        {
            var values = new float[176 * 64];
            saved.Read(name, [176, 64], values);
            Assert.Equal(expected, values);
            var part = new BFloat16[64];
            saved.Read(name, [176, 64], 64, part);
            Assert.Equal(expected[64..128], part.Select(v => (float)v));
        }
    }

    [Fact]
    public void The_tokenizer_travels_with_the_weights_and_its_end_token_with_the_config()
    {
        Directory.CreateDirectory(_folder["source"]);
        foreach (var name in new[] { "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "chat_template.jinja", "other.txt" })
        {
            _folder.Write($"source/{name}", name);
        }

        _folder.Write("source/generation_config.json", """{"eos_token_id":[7,9]}""");
        using var golden = HfDirectory.Open(Goldens.Model("a_tied"));
        Save(golden, _folder["out"], HfDirectory.DefaultShardBytes, _folder["source"]);
        Assert.Equal("merges.txt", File.ReadAllText(_folder["out/merges.txt"]));
        Assert.Equal("chat_template.jinja", File.ReadAllText(_folder["out/chat_template.jinja"]));
        Assert.False(File.Exists(_folder["out/other.txt"]));
        Assert.Equal([7, 9], Qwen2Config.LoadEosTokenIds(_folder["out"]));

        // onto itself: the source is read before it is replaced
        Save(golden, _folder["out"], HfDirectory.DefaultShardBytes, _folder["out"]);
        Assert.Equal("merges.txt", File.ReadAllText(_folder["out/merges.txt"]));
    }

    [Fact]
    public void A_save_that_fails_leaves_the_earlier_model()
    {
        using var golden = HfDirectory.Open(Goldens.Model("a_tied"));
        Save(golden, _folder["out"], HfDirectory.DefaultShardBytes);
        var before = File.ReadAllBytes(_folder["out/model.safetensors"]);
        var broken = new HfTensor(new("x", SafetensorDtype.F32, 4), writer =>
        {
            writer.Write("x", [1f, 2f]);
            throw new IOException("planted");
        });
        var message = Assert.Throws<InvalidInputException>(() => HfDirectory.Save(_folder["out"], golden.Config, [broken], null)).Message;
        Assert.Contains("planted", message);
        Assert.Equal(before, File.ReadAllBytes(_folder["out/model.safetensors"]));
        var unfinished = new HfTensor(new("x", SafetensorDtype.F32, 4), writer => writer.Write("x", [1f, 2f]));
        Assert.Throws<InvalidOperationException>(() => HfDirectory.Save(_folder["out"], golden.Config, [unfinished], null));
        Assert.Equal(before, File.ReadAllBytes(_folder["out/model.safetensors"]));
        Save(golden, _folder["out"], 1);
        Assert.False(File.Exists(_folder["out/model.safetensors"]));
    }

    [Fact]
    public void What_is_no_model_is_not_replaced()
    {
        using var golden = HfDirectory.Open(Goldens.Model("a_tied"));
        _folder.Write("precious", "x");
        Assert.Contains("is not replaced", Assert.Throws<InvalidInputException>(() => Save(golden, _folder.Path, 1)).Message);
        Assert.Contains("is not replaced", Assert.Throws<InvalidInputException>(() => Save(golden, _folder["precious"], 1)).Message);
        Assert.Equal("x", File.ReadAllText(_folder["precious"]));
    }

    [Theory]
    [InlineData("no weights", "holds neither model.safetensors nor")]
    [InlineData("pickle", "pytorch_model.bin is not read")]
    [InlineData("missing shard", "names the shard 'model-00002-of-00026.safetensors', which is not there")]
    [InlineData("wrong shard", "but it is in 'model-00001-of-00026.safetensors'")]
    [InlineData("tensor missing", "but no shard does")]
    [InlineData("tensor twice", "and again in")]
    [InlineData("tensor unlisted", "does not list")]
    [InlineData("way out", "not a file name in the same directory")]
    [InlineData("no map", "has no weight_map")]
    [InlineData("a number", "is not a string")]
    [InlineData("vocabulary", "has 512 rows, but vocab_size in config.json is 513")]
    public void Index_and_shards_must_agree(string lie, string says)
    {
        using (var golden = HfDirectory.Open(Goldens.Model("a_tied")))
        {
            Save(golden, _folder["out"], 1);
        }

        var index = _folder["out/model.safetensors.index.json"];
        var text = File.ReadAllText(index);
        switch (lie)
        {
            case "no weights":
                File.Delete(index);
                break;
            case "pickle":
                File.Delete(index);
                _folder.Write("out/pytorch_model.bin", "x");
                break;
            case "missing shard":
                File.Delete(_folder["out/model-00002-of-00026.safetensors"]);
                break;
            case "wrong shard":
                File.WriteAllText(index, text.Replace("model-00001-of", "x").Replace("model-00002-of", "model-00001-of").Replace("x-00026", "model-00002-of-00026"));
                break;
            case "tensor missing":
                File.WriteAllText(index, text.Replace("\"weight_map\": {", "\"weight_map\": {\"x\":\"model-00001-of-00026.safetensors\","));
                break;
            case "tensor twice":
                File.Copy(_folder["out/model-00001-of-00026.safetensors"], _folder["out/model-00002-of-00026.safetensors"], overwrite: true);
                break;
            case "tensor unlisted":
                // the second shard now holds the tensors of the golden file under other names
                using (var stream = File.Create(_folder["out/model-00001-of-00026.safetensors"]))
                {
                    new SafetensorsWriter(stream, [new("extra", SafetensorDtype.F32, 0), new(NameIn(text, 1), SafetensorDtype.F32, 0)]).Complete();
                }

                break;
            case "way out":
                File.WriteAllText(index, text.Replace("model-00001-of", "../model-00001-of"));
                break;
            case "no map":
                File.WriteAllText(index, "{}");
                break;
            case "a number":
                File.WriteAllText(index, """{"weight_map":{"x":1}}""");
                break;
            default:
                File.WriteAllText(_folder["out/config.json"], File.ReadAllText(_folder["out/config.json"]).Replace("512", "513"));
                break;
        }

        var message = Assert.Throws<InvalidInputException>(() => HfDirectory.Open(_folder["out"])).Message;
        Assert.Contains(says, message);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void Asking_for_the_wrong_tensor_or_shape_gets_a_sentence()
    {
        using var golden = HfDirectory.Open(Goldens.Model("a_tied"));
        var message = Assert.Throws<InvalidInputException>(() => golden.Read("model.layers.0.self_attn.q_proj.weigth", [64, 64], new float[4096])).Message;
        Assert.Contains("'model.layers.0.self_attn.q_proj.weight'", message);
        message = Assert.Throws<InvalidInputException>(() => golden.Read("model.norm.weight", [1, 64], new float[64])).Message;
        Assert.Contains("[64]; config.json asks for [1, 64]", message);
        Assert.Contains("there is no model directory", Assert.Throws<InvalidInputException>(() => HfDirectory.Open(_folder["absent"])).Message);
    }

    [Fact]
    public void The_real_tiny_llama_opens()
    {
        using var llama = HfDirectory.Open(Goldens.RequireData("tiny-weights", "verl-arithmetic-llama"));
        llama.Read("lm_head.weight", [16, 128], new float[16 * 128]);
        Assert.False(llama.Contains("model.layers.0.self_attn.q_proj.bias"));
    }

    private static string NameIn(string index, int shard)
    {
        using var document = JsonDocument.Parse(index);
        return document.RootElement.GetProperty("weight_map").EnumerateObject().First(e => e.Value.GetString() == $"model-{shard:D5}-of-00026.safetensors").Name;
    }

    private static byte[] Bytes(HfDirectory model, string name)
    {
        var values = new float[model[name].Count];
        model.Read(name, [.. model[name].Shape.Select(e => (int)e)], values);
        return [.. values.SelectMany(BitConverter.GetBytes)];
    }

    private static void Save(HfDirectory golden, string directory, long shardBytes, string? tokenizerSource = null)
    {
        var tensors = golden.Names.Select(name => new HfTensor(
            new(name, golden[name].Dtype, golden[name].Shape), writer => writer.WriteBytes(name, Bytes(golden, name)))).ToArray();
        HfDirectory.Save(directory, golden.Config, tensors, tokenizerSource, maxShardBytes: shardBytes);
    }
}
