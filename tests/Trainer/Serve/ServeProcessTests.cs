using System.Net;
using System.Text;
using System.Text.Json;
using Xunit;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Serve;

/// <summary>z1 serve as a process, with a real model of random weights.</summary>
public sealed class ServeProcessTests : IDisposable
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private readonly ServedModel _served = new();
    private readonly HttpClient _http = new();

    public void Dispose()
    {
        _http.Dispose();
        _served.Dispose();
    }

    [Fact]
    public async Task The_same_request_gives_the_same_text_alone_and_in_a_crowd_and_SIGTERM_ends_with_0()
    {
        using var z1 = Start(_served, "--slots", "8");
        var alone = await AskAsync("Add 3 to 4.", 40, "\"seed\":7");
        Assert.True(alone.Length > 10, $"too short to mean anything: '{alone}'");
        Assert.NotEqual(alone, await AskAsync("Add 3 to 4.", 40, "\"seed\":8"));
        var crowd = Enumerable.Range(0, 12).Select(i => AskAsync($"The sum {i} of {i * i}", 30 + i, $"\"seed\":{i}")).ToList();
        Assert.Equal(alone, await AskAsync("Add 3 to 4.", 40, "\"seed\":7"));
        await Task.WhenAll(crowd);
        var under = AskAsync("Add 3 to 4.", 400, "\"temperature\":0");
        while (!(await _http.GetStringAsync("/metrics", Stop)).Contains("\nz1_sequences_active 1\n", StringComparison.Ordinal) && !under.IsCompleted)
        {
            await Task.Delay(1, Stop);
        }

        z1.Terminate();
        Assert.NotEmpty(await under);
        Assert.Contains("SIGTERM", z1.Wait().Succeeded().Output);
    }

    [Fact]
    public void A_port_in_use_a_missing_key_and_a_missing_model_are_one_sentence()
    {
        using var z1 = Start(_served);
        Z1.Run("serve", "--model", _served.Directory, "--port", $"{_http.BaseAddress!.Port}").FailedWith("address already in use");
        Z1.Run("serve", "--model", _served.Directory, "--api-key-env", "Z1_NO_SUCH_KEY").FailedWith("Z1_NO_SUCH_KEY is not set");
        Z1.Run("serve", "--model", _served["none"]).FailedWith("none");
        Z1.Run("serve", "--model", _served.Directory, "--host", "example").WasMisused("--host example");
    }

    /// <summary>The layout of QwQ-32B's config.json (Qwen2.5-32B's: head width 128, biases, an untied head), with its sizes cut down.</summary>
    [Fact]
    public async Task The_layout_of_QwQ_32B_is_served()
    {
        const string Published = """
            {"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu",
             "hidden_size": 5120, "initializer_range": 0.02, "intermediate_size": 27648, "max_position_embeddings": 40960, "max_window_layers": 64,
             "model_type": "qwen2", "num_attention_heads": 40, "num_hidden_layers": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
             "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
             "use_sliding_window": false, "vocab_size": 152064}
            """;
        Directory.CreateDirectory(_served["published"]);
        File.WriteAllText(Path.Combine(_served["published"], "config.json"), Published);
        var config = Qwen2Config.Load(_served["published"]);
        Assert.Equal((5120, 64, 40, 8, 128, 152064, false), (config.HiddenSize, config.NumHiddenLayers, config.NumAttentionHeads,
            config.NumKeyValueHeads, config.HeadDim, config.VocabSize, config.TieWordEmbeddings));
        using var small = new ServedModel(config with
        {
            HiddenSize = 640, NumHiddenLayers = 1, NumAttentionHeads = 5, NumKeyValueHeads = 1, IntermediateSize = 64, VocabSize = 320,
            MaxPositionEmbeddings = 256,
        });
        using var z1 = Start(small);
        Assert.NotEmpty(await AskAsync("Add 3 to 4.", 8, "\"temperature\":0"));
    }

    [Theory]
    [InlineData("trajectories", "completions")]
    [InlineData("trajectories", "chat")]
    public async Task Curation_with_this_server_as_teacher_survives_a_kill(string verb, string api)
    {
        const int Items = 60;
        File.WriteAllLines(_served["problems.jsonl"], Enumerable.Range(0, Items).Select(i => $"{{\"question\": \"Add {i}.\"}}"));
        using var server = Start(_served, "--context", "512");
        string[] command =
        [
            "curate", verb, _served["problems.jsonl"], "--teacher", $"{_http.BaseAddress}v1", "--model", "m", "--api", api, "--out", _served["out.jsonl"],
            "--max-tokens", "60", "--concurrency", "4", "--progress-every", "0.05",
        ];
        using (var killed = Z1.Start(command))
        {
            while (await AnsweredAsync(idle: false) < 12 && !killed.HasExited)
            {
                await Task.Delay(1, Stop);
            }

            Assert.False(killed.HasExited, "it ended before it could be killed");
            killed.Kill();
            killed.Wait();
        }

        var before = Lines();
        Assert.InRange(before, 8, Items - 1);
        var asked = await AnsweredAsync();
        var json = Z1.Run([.. command, "--json"]).Json();
        Assert.Equal((before, Items - before), (json.GetProperty("done_before").GetInt32(), json.GetProperty("kept").GetInt32()));
        Assert.Equal(Items - before, await AnsweredAsync() - asked);
        var questions = File.ReadLines(_served["out.jsonl"]).Select(l => JsonDocument.Parse(l).RootElement.GetProperty("question").GetString()).ToList();
        Assert.Equal(Enumerable.Range(0, Items).Select(i => $"Add {i}.").Order(), questions.Order());
    }

    /// <summary>Finished items on disk, once curate has let go of the file.</summary>
    private int Lines() => File.ReadAllText(_served["out.jsonl"]).Count(c => c == '\n');

    /// <summary>Completions that the server has answered with 200; with idle, once none is under way.</summary>
    private async Task<int> AnsweredAsync(bool idle = true)
    {
        while (true)
        {
            var lines = (await _http.GetStringAsync("/metrics", Stop)).Split('\n');
            if (!idle || (lines.Contains("z1_sequences_active 0") && lines.Contains("z1_sequences_waiting 0")))
            {
                return lines.Where(l => l.StartsWith("z1_requests_total", StringComparison.Ordinal) && l.Contains("status=\"200\"", StringComparison.Ordinal)
                    && (l.Contains("\"chat\"", StringComparison.Ordinal) || l.Contains("\"completions\"", StringComparison.Ordinal)))
                    .Sum(l => int.Parse(l[(l.LastIndexOf(' ') + 1)..]));
            }

            await Task.Delay(5, Stop);
        }
    }

    private Z1 Start(ServedModel model, params string[] more)
    {
        File.Delete(model["port"]);
        var z1 = Z1.Start(["serve", "--model", model.Directory, "--served-name", "m", "--port", "0", "--port-file", model["port"], "--dtype", "fp32", .. more]);
        Assert.True(z1.WaitForLines(1), "the server ended");
        _http.BaseAddress = new UriBuilder("http", "localhost", int.Parse(File.ReadAllText(model["port"]))).Uri;
        return z1;
    }

    private async Task<string> AskAsync(string prompt, int tokens, string more)
    {
        var body = $$"""{"model":"m","prompt":"{{prompt}}","max_tokens":{{tokens}},{{more}}}""";
        using var content = new StringContent(body, Encoding.UTF8, "application/json");
        using var response = await _http.PostAsync("/v1/completions", content, Stop);
        var text = await response.Content.ReadAsStringAsync(Stop);
        Assert.True(response.StatusCode == HttpStatusCode.OK, text);
        return JsonDocument.Parse(text).RootElement.GetProperty("choices")[0].GetProperty("text").GetString()!;
    }
}
