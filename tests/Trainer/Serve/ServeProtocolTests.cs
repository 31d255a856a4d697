using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Serve;

namespace Z1Coder.Tests.Trainer.Serve;

/// <summary>HTTP and JSON of the server over loopback, before an engine whose words are known.</summary>
public sealed class ServeProtocolTests : IAsyncLifetime
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private const string Ask = """{"model":"m","prompt":"Add 1 to 2.","max_tokens":3}""";

    private readonly ServedModel _served = new();
    private readonly ScriptedEngine _engine = new();
    private HttpClient _http = new();
    private ModelServer _server = null!;

    public async ValueTask InitializeAsync() => await StartAsync(new ServeOptions { MaxSequences = 4, MaxBodyBytes = 20_000, MaxChoices = 4, GraceSeconds = 30 });

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        _engine.Dispose();
        _http.Dispose();
        _served.Dispose();
    }

    [Fact]
    public async Task A_completion_has_the_published_shape()
    {
        var json = await OkAsync("/v1/completions", Ask);
        Assert.StartsWith("cmpl-", json.GetProperty("id").GetString());
        Assert.Equal("text_completion", json.GetProperty("object").GetString());
        Assert.Equal("w0 w1 w2 ", json.GetProperty("choices")[0].GetProperty("text").GetString());
        Assert.Equal("length", json.GetProperty("choices")[0].GetProperty("finish_reason").GetString());
        var usage = json.GetProperty("usage");
        var prompt = _served.Tokenizer.Encode("Add 1 to 2.").Length;
        Assert.Equal((prompt, 3, prompt + 3, 2), (usage.GetProperty("prompt_tokens").GetInt32(), usage.GetProperty("completion_tokens").GetInt32(),
            usage.GetProperty("total_tokens").GetInt32(), usage.GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32()));
        Assert.True(_engine.Asked.TryPeek(out var asked));
        Assert.Equal((1f, 1f, 0), (asked.Sampling.Temperature, asked.Sampling.TopP, asked.Sampling.TopK));
    }

    [Fact]
    public async Task A_chat_runs_the_checkpoints_template_over_texts_and_parts()
    {
        var json = await OkAsync("/v1/chat/completions", """
            {"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
             "temperature":0,"user":"u","presence_penalty":0,"logprobs":false,"tools":[],"stop":null}
            """);
        Assert.Equal("chat.completion", json.GetProperty("object").GetString());
        Assert.Equal("stop", json.GetProperty("choices")[0].GetProperty("finish_reason").GetString());
        Assert.Equal("assistant", json.GetProperty("choices")[0].GetProperty("message").GetProperty("role").GetString());
        Assert.True(_engine.Asked.TryPeek(out var asked));
        Assert.Equal("<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n", _served.Tokenizer.Decode(asked.Prompt));
        Assert.Contains(_served.Tokenizer.IdOf("<|im_end|>")!.Value, asked.Options.EndTokens);
    }

    [Fact]
    public async Task Events_start_with_the_role_and_end_with_usage_and_DONE()
    {
        using var response = await PostAsync("/v1/chat/completions", """
            {"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":2,"n":2,"stream":true,"stream_options":{"include_usage":true}}
            """);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType!.MediaType);
        var events = (await response.Content.ReadAsStringAsync(Stop)).Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        Assert.All(events, e => Assert.StartsWith("data: ", e));
        Assert.Equal("data: [DONE]", events[^1]);
        var chunks = events[..^1].Select(e => JsonDocument.Parse(e[6..]).RootElement).ToList();
        Assert.Single(chunks.Select(c => c.GetProperty("id").GetString()).Distinct());
        for (var i = 0; i < 2; i++)
        {
            var own = chunks.Where(c => c.GetProperty("choices").GetArrayLength() == 1 && c.GetProperty("choices")[0].GetProperty("index").GetInt32() == i)
                .Select(c => c.GetProperty("choices")[0]).ToList();
            Assert.Equal("assistant", own[0].GetProperty("delta").GetProperty("role").GetString());
            Assert.Equal("w0 w1 ", string.Concat(own.Select(c => c.GetProperty("delta").TryGetProperty("content", out var t) ? t.GetString() : "")));
            Assert.Equal("length", own[^1].GetProperty("finish_reason").GetString());
            Assert.All(own[..^1], c => Assert.Equal(JsonValueKind.Null, c.GetProperty("finish_reason").ValueKind));
        }

        Assert.Equal(4, chunks[^1].GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        Assert.All(chunks[..^1], c => Assert.Equal(JsonValueKind.Null, c.GetProperty("usage").ValueKind));
    }

    [Fact]
    public async Task Several_prompts_of_texts_and_ids_give_choices_in_order_with_seeds_of_their_own()
    {
        var json = await OkAsync("/v1/completions", """{"model":"m","prompt":[[5,6],[8]],"n":2,"seed":11,"max_tokens":1}""");
        Assert.Equal([0, 1, 2, 3], json.GetProperty("choices").EnumerateArray().Select(c => c.GetProperty("index").GetInt32()));
        var asked = _engine.Asked.ToArray();
        Assert.Equal([[5, 6], [5, 6], [8], [8]], asked.Select(a => a.Prompt));
        Assert.Equal(11UL, asked[0].Sampling.Seed);
        Assert.Equal(asked[1].Sampling.Seed, asked[3].Sampling.Seed);
        Assert.NotEqual(asked[0].Sampling.Seed, asked[1].Sampling.Seed);
    }

    [Theory]
    [InlineData("""{"model":"m","prompt":"a",""", 400, null, "line 1, byte")]
    [InlineData("[1]", 400, null, "JSON object")]
    [InlineData("""{"prompt":"a"}""", 400, "model", "model must be a string")]
    [InlineData("""{"model":"other","prompt":"a"}""", 404, "model", "does not exist")]
    [InlineData("""{"model":"m"}""", 400, "prompt", "prompt must be")]
    [InlineData("""{"model":"m","prompt":""}""", 400, "prompt", "empty")]
    [InlineData("""{"model":"m","prompt":[1,"a"]}""", 400, "prompt", "no token id")]
    [InlineData("""{"model":"m","prompt":[99999]}""", 400, "prompt", "no token id")]
    [InlineData("""{"model":"m","prompt":[7]}""", 400, null, "dislikes token 7")]
    [InlineData("""{"model":"m","prompt":"a","max_tokens":0}""", 400, "max_tokens", "at least 1")]
    [InlineData("""{"model":"m","prompt":"a","max_tokens":1.5}""", 400, "max_tokens", "whole number")]
    [InlineData("""{"model":"m","prompt":"a","temperature":-1}""", 400, "temperature", "from 0 to 2")]
    [InlineData("""{"model":"m","prompt":"a","temperature":"hot"}""", 400, "temperature", "number")]
    [InlineData("""{"model":"m","prompt":"a","top_p":0}""", 400, "top_p", "above 0")]
    [InlineData("""{"model":"m","prompt":"a","n":5}""", 400, "n", "from 1 to 4")]
    [InlineData("""{"model":"m","prompt":"a","stop":["",""]}""", 400, "stop", "none of them empty")]
    [InlineData("""{"model":"m","prompt":"a","stop":["1","2","3","4","5"]}""", 400, "stop", "up to 4")]
    [InlineData("""{"model":"m","prompt":"a","stream":1}""", 400, "stream", "true or false")]
    [InlineData("""{"model":"m","prompt":"a","stream_options":{}}""", 400, "stream_options", "needs stream")]
    [InlineData("""{"model":"m","prompt":"a","seed":"x"}""", 400, "seed", "whole number")]
    [InlineData("""{"model":"m","prompt":"a","echo":true}""", 400, "echo", "not supported")]
    [InlineData("""{"model":"m","prompt":"a","logprobs":2}""", 400, "logprobs", "not supported")]
    [InlineData("""{"model":"m","prompt":"a","presence_penalty":0.5}""", 400, "presence_penalty", "not supported")]
    [InlineData("""{"model":"m","prompt":"a","best_of":3}""", 400, "best_of", "not supported")]
    [InlineData("""{"model":"m","prompt":"a","surprise":1}""", 400, "surprise", "not supported")]
    [InlineData("""{"model":"m","prompt":"a","prompt":"b"}""", 400, null, "twice")]
    [InlineData("""{"model":"m","prompt":"\ud800"}""", 400, null, "Unicode")]
    public Task Bad_completions_are_refused_by_name(string body, int status, string? param, string part) =>
        RefusedAsync("/v1/completions", body, status, param, part);

    [Theory]
    [InlineData("""{"model":"m","messages":[]}""", "messages", "at least one")]
    [InlineData("""{"model":"m","messages":[{"role":"tool","content":"a"}]}""", "messages[0].role", "system, user or assistant")]
    [InlineData("""{"model":"m","messages":[{"role":"user"}]}""", "messages[0].content", "content")]
    [InlineData("""{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]}""", "messages[0].content", "no text")]
    [InlineData("""{"model":"m","messages":[{"role":"assistant","content":"a","tool_calls":[]}]}""", "messages[0].tool_calls", "not supported")]
    [InlineData("""{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{}]}""", "tools", "not supported")]
    [InlineData("""{"model":"m","messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_object"}}""", "response_format", "not supported")]
    [InlineData("""{"model":"m","messages":[{"role":"user","content":"a"}],"logprobs":true}""", "logprobs", "not supported")]
    [InlineData("""{"model":"m","messages":[{"role":"user","content":"a"}],"prompt":"a"}""", "prompt", "not supported")]
    public Task Bad_chats_are_refused_by_name(string body, string param, string part) => RefusedAsync("/v1/chat/completions", body, 400, param, part);

    [Fact]
    public async Task Prompts_and_bodies_have_limits()
    {
        await RefusedAsync("/v1/completions", $$"""{"model":"m","prompt":[{{string.Join(',', Enumerable.Repeat(9, 64))}}]}""", 400, "prompt", "64 tokens and the context 64");
        await RefusedAsync("/v1/completions", $$"""{"model":"m","prompt":"{{new string('a', 30_000)}}"}""", 413, null, "20000 bytes");
        await RefusedAsync("/v1/completions", """{"model":"m","prompt":[[1],[1],[1]],"n":2}""", 400, "n", "asks for 6");
        await RefusedAsync("/v2/x", "{}", 404, null, "no /v2/x");
        using var get = await _http.GetAsync("/v1/completions", Stop);
        Assert.Equal((HttpStatusCode.MethodNotAllowed, "POST"), (get.StatusCode, get.Content.Headers.Allow.Single()));
    }

    [Fact]
    public async Task More_than_the_queue_holds_is_told_to_come_again()
    {
        _engine.Allowed = 0;
        var held = Enumerable.Range(0, 4).Select(_ => PostAsync("/v1/completions", Ask)).ToList();
        await UntilAsync(() => _engine.Stats.Active == 4);
        using var refused = await PostAsync("/v1/completions", Ask);
        Assert.Equal((HttpStatusCode.TooManyRequests, TimeSpan.FromSeconds(1)), (refused.StatusCode, refused.Headers.RetryAfter!.Delta));
        await AllAnsweredAsync(held);
    }

    [Fact]
    public async Task More_requests_than_allowed_in_flight_are_told_to_come_again()
    {
        await _server.DisposeAsync();
        await StartAsync(new ServeOptions { MaxRequests = 2 });
        _engine.Allowed = 0;
        var held = Enumerable.Range(0, 2).Select(_ => PostAsync("/v1/completions", Ask)).ToList();
        await UntilAsync(() => _engine.Stats.Active == 2);
        await RefusedAsync("/v1/completions", Ask, 429, null, "2 requests are in flight, of at most 2");
        Assert.Equal("""{"status":"ok"}""", await _http.GetStringAsync("/health", Stop));
        await AllAnsweredAsync(held);
    }

    /// <summary>The engine goes on: what was held is answered, and so is what comes after it.</summary>
    private async Task AllAnsweredAsync(List<Task<HttpResponseMessage>> held)
    {
        Volatile.Write(ref _engine.Allowed, 1000);
        foreach (var response in await Task.WhenAll(held))
        {
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            response.Dispose();
        }

        await OkAsync("/v1/completions", Ask);
    }

    [Fact]
    public async Task What_a_template_raises_is_the_callers_answer()
    {
        await _server.DisposeAsync();
        File.WriteAllText(_served["model/chat_template.jinja"],
            "{% if messages[0].role == 'system' %}{{ raise_exception('Conversation begins with the user, please.') }}{% endif %}{{ messages[0].content }}");
        await StartAsync(new ServeOptions());
        await RefusedAsync("/v1/chat/completions", """{"model":"m","messages":[{"role":"system","content":"a"}]}""", 400, "messages", "Conversation begins with the user, please.");
        await OkAsync("/v1/chat/completions", """{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":2}""");
        Assert.True(_engine.Asked.TryPeek(out var asked));
        Assert.Equal("a", _served.Tokenizer.Decode(asked.Prompt));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_client_that_goes_away_ends_its_sequences(bool stream)
    {
        _engine.Allowed = 1;
        using var gone = new CancellationTokenSource();
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions")
        {
            Content = Json(Ask.Replace("}", stream ? ",\"n\":2,\"stream\":true}" : ",\"n\":2}", StringComparison.Ordinal)),
        };
        var asked = _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, gone.Token);
        await UntilAsync(() => _engine.Stats.Active == 2);
        if (stream)
        {
            (await asked).Dispose();
        }

        await gone.CancelAsync();
        await UntilAsync(() => _engine.Cancelled == 2 && _engine.Stats.Active == 0);
        await UntilAsync(() => _http.GetStringAsync("/metrics", Stop).GetAwaiter().GetResult().Contains("status=\"499\"} 1", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_slow_request_is_given_up()
    {
        await _server.DisposeAsync();
        await StartAsync(new ServeOptions { TimeoutSeconds = 0.2 });
        _engine.Allowed = 0;
        await RefusedAsync("/v1/completions", Ask, 504, null, "longer than 0.2 s");
        await UntilAsync(() => _engine.Stats.Active == 0);
    }

    [Fact]
    public async Task A_key_is_asked_for_under_v1_only()
    {
        await _server.DisposeAsync();
        await StartAsync(new ServeOptions { Key = "right" });
        await RefusedAsync("/v1/completions", Ask, 401, null, "missing or wrong");
        _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", "wrong");
        await RefusedAsync("/v1/chat/completions", Ask, 401, null, "missing or wrong");
        _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", "right");
        await OkAsync("/v1/completions", Ask);
        _http.DefaultRequestHeaders.Authorization = null;
        Assert.Equal("""{"status":"ok"}""", await _http.GetStringAsync("/health", Stop));
    }

    [Fact]
    public async Task Metrics_count_what_happened()
    {
        await OkAsync("/v1/completions", Ask);
        await RefusedAsync("/v1/completions", "{", 400, null, "JSON");
        var page = "";
        while (!page.Contains("\nz1_requests_in_flight 0\n", StringComparison.Ordinal))       // an answer is counted once it is sent
        {
            page = await _http.GetStringAsync("/metrics", Stop);
        }

        Assert.Contains("z1_requests_total{route=\"completions\",status=\"200\"} 1\n", page);
        Assert.Contains("z1_requests_total{route=\"completions\",status=\"400\"} 1\n", page);
        Assert.Contains("\nz1_new_tokens_total 3\n", page);
        Assert.Contains("\nz1_time_to_first_token_seconds_count 1\n", page);
        Assert.Contains("\nz1_time_per_token_seconds_count 2\n", page);
        Assert.Contains("\nz1_pages 8\n", page);
        var families = new HashSet<string>();
        foreach (var line in page.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            if (line.StartsWith("# TYPE ", StringComparison.Ordinal))
            {
                Assert.True(families.Add(line.Split(' ')[2]), $"{line} stands twice");
            }
            else if (!line.StartsWith('#'))
            {
                Assert.True(double.TryParse(line[(line.LastIndexOf(' ') + 1)..], NumberStyles.Float, CultureInfo.InvariantCulture, out var value) && value >= 0, line);
                Assert.Contains(families, f => line.StartsWith(f, StringComparison.Ordinal));
            }
        }
    }

    [Fact]
    public async Task Stopping_lets_requests_finish_and_takes_no_others()
    {
        _engine.Allowed = 1;
        var held = PostAsync("/v1/completions", Ask);
        await UntilAsync(() => _engine.Stats.Active == 1);
        var stop = _server.StopAsync();
        using (var health = await _http.GetAsync("/health", Stop))
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, health.StatusCode);
        }

        await RefusedAsync("/v1/completions", Ask, 503, null, "stopping");
        Volatile.Write(ref _engine.Allowed, 100);
        using var response = await held;
        Assert.Contains("w0 w1 w2 ", await response.Content.ReadAsStringAsync(Stop));
        await stop;
        await Assert.ThrowsAsync<HttpRequestException>(() => _http.GetAsync("/health", Stop));
    }

    [Fact]
    public async Task When_the_time_of_grace_is_over_a_request_gets_the_text_so_far()
    {
        await _server.DisposeAsync();
        await StartAsync(new ServeOptions { GraceSeconds = 0.1 });
        _engine.Allowed = 1;
        var held = PostAsync("/v1/completions", Ask);
        await UntilAsync(() => _engine.Stats.Active == 1 && _engine.Allowed == 0);
        await _server.StopAsync();
        using var response = await held;
        using var json = JsonDocument.Parse(await response.Content.ReadAsStringAsync(Stop));
        var choice = json.RootElement.GetProperty("choices")[0];
        Assert.Equal(("w0 ", "length"), (choice.GetProperty("text").GetString(), choice.GetProperty("finish_reason").GetString()));
    }

    [Fact]
    public async Task An_engine_that_breaks_fails_every_request()
    {
        _engine.Allowed = 0;
        var held = Enumerable.Range(0, 3).Select(_ => PostAsync("/v1/completions", Ask)).ToList();
        await UntilAsync(() => _engine.Stats.Active == 3);
        _engine.Breaks = new InvalidOperationException("secret detail");
        foreach (var response in await Task.WhenAll(held))
        {
            Assert.Equal(HttpStatusCode.InternalServerError, response.StatusCode);
            Assert.DoesNotContain("secret", await response.Content.ReadAsStringAsync(Stop));
            response.Dispose();
        }

        Assert.Equal("secret detail", (await _server.EngineFailed).Message);
        await RefusedAsync("/v1/completions", Ask, 500, null, "engine failed");
    }

    [Fact]
    public async Task Models_are_listed_and_found()
    {
        using var list = JsonDocument.Parse(await _http.GetStringAsync("/v1/models", Stop));
        Assert.Equal("m", list.RootElement.GetProperty("data")[0].GetProperty("id").GetString());
        using var one = JsonDocument.Parse(await _http.GetStringAsync("/v1/models/m", Stop));
        Assert.Equal(64, one.RootElement.GetProperty("max_model_len").GetInt32());
        using var none = await _http.GetAsync("/v1/models/a%2Fb", Stop);
        Assert.Equal(HttpStatusCode.NotFound, none.StatusCode);
        Assert.Contains("'a/b'", await none.Content.ReadAsStringAsync(Stop));
    }

    private static StringContent Json(string body) => new(body, Encoding.UTF8, "application/json");

    private static async Task UntilAsync(Func<bool> condition)
    {
        for (var tries = 0; !condition(); tries++)
        {
            Assert.True(tries < 4000, "it did not come to pass in 20 s");
            await Task.Delay(5, Stop);
        }
    }

    private async Task StartAsync(ServeOptions options)
    {
        _server = await ModelServer.StartAsync(ServeModel.Load(_served.Directory, "m"), _engine, options);
        _http.Dispose();
        _http = new HttpClient { BaseAddress = new Uri(_server.Address) };
    }

    private Task<HttpResponseMessage> PostAsync(string path, string body) => _http.PostAsync(path, Json(body), Stop);

    private async Task<JsonElement> OkAsync(string path, string body)
    {
        using var response = await PostAsync(path, body);
        var text = await response.Content.ReadAsStringAsync(Stop);
        Assert.True(response.StatusCode == HttpStatusCode.OK, text);
        return JsonDocument.Parse(text).RootElement;
    }

    private async Task RefusedAsync(string path, string body, int status, string? param, string part)
    {
        using var response = await PostAsync(path, body);
        var text = await response.Content.ReadAsStringAsync(Stop);
        Assert.True((int)response.StatusCode == status, $"{response.StatusCode}: {text}");
        var error = JsonDocument.Parse(text).RootElement.GetProperty("error");
        Assert.Contains(part, error.GetProperty("message").GetString());
        Assert.Equal(param, error.GetProperty("param").GetString());
        Assert.Equal(["message", "type", "param", "code"], error.EnumerateObject().Select(p => p.Name));
        Assert.DoesNotContain("   at ", text);
        Assert.DoesNotContain("Exception", text);
    }
}
