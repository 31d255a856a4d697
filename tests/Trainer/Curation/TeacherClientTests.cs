using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Xunit;
using Z1Coder.Perf;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>One request against a server that behaves, and against servers that do not.</summary>
public sealed class TeacherClientTests
{
    private static readonly DecodingParameters s_greedy = new() { MaxTokens = 64 };

    [Fact]
    public async Task The_request_says_what_is_asked_and_the_answer_is_read()
    {
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Answer("good \"answer\" é", "length", 7, 9));
        using var client = new TeacherClient(server.Options with { Key = "secret" }, TeacherApi.Chat, "m/odel");
        var decoding = new DecodingParameters { Temperature = 0.5, TopP = 0.9, MaxTokens = 33, Seed = 5, Stop = ["</s>"] };
        var answer = await client.AskAsync([new("system", "s"), new("user", "u\n{}")], decoding, Test);
        Assert.Equal(new TeacherAnswer("good \"answer\" é", "length", 7, 9), answer);
        Assert.True(answer.IsCut);
        Assert.Equal("/v1/chat/completions", server.Last!.Path);
        Assert.Contains("Authorization: Bearer secret", server.Last.Head);
        Assert.Equal(
            """{"model":"m/odel","messages":[{"role":"system","content":"s"},{"role":"user","content":"u\n{}"}],"temperature":0.5,"top_p":0.9,"max_tokens":33,"seed":5,"stop":["</s>"]}""",
            Encoding.UTF8.GetString(server.Last.Body));
        Assert.Equal((1, 7, 9, 0), (client.Answers, client.PromptTokens, client.CompletionTokens, client.Retries));

        using var text = new TeacherClient(server.Options, TeacherApi.Completions, "m");
        await text.AskAsync([new("user", "continue this")], s_greedy, Test);
        Assert.Equal("/v1/completions", server.Last.Path);
        Assert.DoesNotContain("Authorization", server.Last.Head);
        Assert.Equal("""{"model":"m","prompt":"continue this","temperature":0,"top_p":1,"max_tokens":64}""",
            Encoding.UTF8.GetString(server.Last.Body));
        await Assert.ThrowsAsync<InvalidInputException>(() => text.AskAsync([new("system", "s"), new("user", "u")], s_greedy, Test));
    }

    [Fact]
    public async Task Reasoning_that_the_server_keeps_apart_stands_before_the_answer()
    {
        using var server = new ScriptedTeacher((_, _) => new LoopbackReply(200,
            """{"choices":[{"message":{"content":"answer","reasoning_content":"\nwhy\n"},"finish_reason":"stop"}]}"""u8.ToArray()));
        using var client = new TeacherClient(server.Options, TeacherApi.Chat, "m");
        var answer = await client.AskAsync([new("user", "u")], s_greedy, Test);
        Assert.Equal("<think>\nwhy\n</think>\n\nanswer", answer.Text);
        Assert.Equal(0, answer.CompletionTokens);
    }

    public static TheoryData<string> Passing =>
        ["429", "500", "503", "408", "cut head", "cut body", "dropped", "truncated JSON", "no choices", "no content", "HTML 502", "slow"];

    [Theory, MemberData(nameof(Passing))]
    public async Task What_passes_is_tried_again(string trouble)
    {
        using var server = new ScriptedTeacher((prompt, before) => prompt == "warm" || before >= 2 ? LoopbackReply.Answer("at last")
            : Bad(trouble));
        using var client = new TeacherClient(server.Options with { TimeoutSeconds = trouble == "slow" ? 1 : 20 }, TeacherApi.Chat, "m");
        Assert.Equal("at last", (await client.AskAsync([new("user", "x")], s_greedy, Test)).Text);
        Assert.Equal(3, server.Asked["x"]);
        Assert.Equal(2, client.Retries);
        Assert.False(string.IsNullOrEmpty(client.LastProblem));
    }

    [Theory, MemberData(nameof(Passing))]
    public async Task What_does_not_pass_fails_the_item_with_one_sentence(string trouble)
    {
        using var server = new ScriptedTeacher((prompt, _) => prompt == "warm" ? LoopbackReply.Answer("ok") : Bad(trouble));
        using var client = new TeacherClient(server.Options with { Retries = 1, TimeoutSeconds = trouble == "slow" ? 1 : 20 },
            TeacherApi.Chat, "m");
        await client.AskAsync([new("user", "warm")], s_greedy, Test);
        var e = await Assert.ThrowsAsync<TeacherException>(() => client.AskAsync([new("user", "x")], s_greedy, Test));
        Assert.Contains(server.BaseUrl, e.Message);
        Assert.DoesNotContain('\n', e.Message);
        Assert.Equal(2, server.Asked["x"]);
    }

    [Fact]
    public async Task Retry_After_is_waited_for_and_holds_back_the_others()
    {
        var clock = Stopwatch.StartNew();
        using var server = new ScriptedTeacher((prompt, before) =>
            prompt == "first" && before == 0 ? LoopbackReply.Error(429, "too fast", headers: "Retry-After: 1\r\n")
                : LoopbackReply.Answer("ok"));
        using var client = new TeacherClient(server.Options, TeacherApi.Chat, "m");
        var first = client.AskAsync([new("user", "first")], s_greedy, Test);
        while (client.LastProblem is null)              // the first has been told
        {
            await Task.Delay(5, Test);
        }

        await client.AskAsync([new("user", "second")], s_greedy, Test);
        Assert.True(clock.Elapsed >= TimeSpan.FromSeconds(0.95), "the second request did not wait for what the first was told");
        await first;
        Assert.True(clock.Elapsed >= TimeSpan.FromSeconds(0.95), $"back after {clock.Elapsed.TotalSeconds} s");
        Assert.Equal(2, server.Asked["first"]);
    }

    [Theory]
    [InlineData(401, "invalid_api_key", "refused the key in SOME_KEY")]
    [InlineData(403, "forbidden", "refused the key in SOME_KEY")]
    [InlineData(402, "payment", "no credit left")]
    [InlineData(429, "insufficient_quota", "no credit left")]
    [InlineData(404, "not_found", "does not serve model 'm'")]
    public async Task What_no_item_can_pass_stops_the_run_at_once(int status, string code, string said)
    {
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Error(status, "the server's own words", code));
        using var client = new TeacherClient(server.Options with { Key = "k", KeyVariable = "SOME_KEY" }, TeacherApi.Chat, "m");
        var e = await Assert.ThrowsAsync<InvalidInputException>(() => client.AskAsync([new("user", "x")], s_greedy, Test));
        Assert.Contains(said, e.Message);
        Assert.Contains("the server's own words", e.Message);
        Assert.Equal(1, server.Requests);
    }

    [Fact]
    public async Task A_missing_key_is_asked_for_by_the_variables_name()
    {
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Error(401, "no key"));
        using var client = new TeacherClient(server.Options with { KeyVariable = "SOME_KEY" }, TeacherApi.Chat, "m");
        var e = await Assert.ThrowsAsync<InvalidInputException>(() => client.AskAsync([new("user", "x")], s_greedy, Test));
        Assert.Contains("environment variable SOME_KEY", e.Message);
    }

    [Fact]
    public async Task A_refused_request_fails_its_item_only_and_is_not_repeated()
    {
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Error(400, "prompt too long"));
        using var client = new TeacherClient(server.Options, TeacherApi.Chat, "m");
        var e = await Assert.ThrowsAsync<TeacherException>(() => client.AskAsync([new("user", "x")], s_greedy, Test));
        Assert.Contains("400: prompt too long", e.Message);
        Assert.Equal(1, server.Requests);
    }

    [Fact]
    public async Task HTML_before_any_answer_and_a_closed_port_are_a_wrong_address()
    {
        using var server = new ScriptedTeacher((_, _) => Bad("HTML 200"));
        using var client = new TeacherClient(server.Options, TeacherApi.Chat, "m");
        var e = await Assert.ThrowsAsync<InvalidInputException>(() => client.AskAsync([new("user", "x")], s_greedy, Test));
        Assert.Contains("HTML instead of JSON", e.Message);
        Assert.Equal(1, server.Requests);

        var gone = new ScriptedTeacher((_, _) => LoopbackReply.Answer(""));
        var options = gone.Options;
        gone.Dispose();
        using var nobody = new TeacherClient(options, TeacherApi.Chat, "m");
        e = await Assert.ThrowsAsync<InvalidInputException>(() => nobody.AskAsync([new("user", "x")], s_greedy, Test));
        Assert.Contains("cannot be reached", e.Message);
        Assert.Throws<InvalidInputException>(() => new TeacherClient(options with { BaseUrl = "localhost" }, TeacherApi.Chat, "m"));
    }

    [Fact]
    public async Task The_rate_of_requests_is_kept()
    {
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Answer("ok"));
        using var client = new TeacherClient(server.Options with { RequestsPerMinute = 600 }, TeacherApi.Chat, "m");
        var clock = Stopwatch.StartNew();
        await Task.WhenAll(Enumerable.Range(0, 20).Select(i => client.AskAsync([new("user", $"{i}")], s_greedy, Test)));
        Assert.True(clock.Elapsed.TotalSeconds >= 0.9, $"20 requests at 10 a second, 10 saved up, took {clock.Elapsed.TotalSeconds} s");
    }

    [Fact]
    public async Task The_rate_of_tokens_is_kept_by_what_the_server_counted()
    {
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Answer("ok", "stop", 40, 60));
        using var client = new TeacherClient(server.Options with { TokensPerMinute = 60_000 }, TeacherApi.Chat, "m");
        var seconds = await SecondsOf(20, client);

        // 2,000 tokens at 1,000 a second, 1,000 of them saved up; the last answer is paid after it came
        Assert.True(seconds >= 0.85, $"took {seconds} s");
    }

    [Fact]
    public async Task A_server_that_counts_no_tokens_is_held_to_the_rate_by_its_texts()
    {
        var body = JsonSerializer.SerializeToUtf8Bytes(new { choices = new[] { new { message = new { content = new string('x', 300) } } } });
        using var server = new ScriptedTeacher((_, _) => new LoopbackReply(200, body));
        using var client = new TeacherClient(server.Options with { TokensPerMinute = 60_000 }, TeacherApi.Chat, "m");
        var seconds = await SecondsOf(12, client);

        // some 140 tokens each at 1,000 a second, 1,000 of them saved up
        Assert.True(seconds >= 0.4, $"took {seconds} s");
    }

    private static async Task<double> SecondsOf(int requests, TeacherClient client)
    {
        var clock = Stopwatch.StartNew();
        for (var i = 0; i < requests; i++)
        {
            await client.AskAsync([new("user", $"{i}")], s_greedy, Test);
        }

        return clock.Elapsed.TotalSeconds;
    }

    [Theory]
    [InlineData(400, "x", "context_length_exceeded", true, true)]
    [InlineData(400, "The input is longer than the Maximum Model Length of 8.", "400", true, true)]
    [InlineData(413, "big", "error", true, false)]
    [InlineData(409, "conflict", "context_length_exceeded", false, false)]
    public async Task A_refusal_says_whether_the_request_itself_is_at_fault(int status, string said, string code, bool refusal, bool tooLong)
    {
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Error(status, said, code));
        using var client = new TeacherClient(server.Options, TeacherApi.Chat, "m");
        var e = await Assert.ThrowsAsync<TeacherException>(() => client.AskAsync([new("user", "x")], s_greedy, Test));
        Assert.Equal((refusal, tooLong), (e.IsRefusal, e.IsTooLong));
    }

    [Fact]
    public async Task A_cancelled_request_is_no_failure()
    {
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Answer("late") with { DelayMilliseconds = 10_000 });
        using var client = new TeacherClient(server.Options, TeacherApi.Chat, "m");
        using var cancel = new CancellationTokenSource(100);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => client.AskAsync([new("user", "x")], s_greedy, cancel.Token));
    }

    private static CancellationToken Test => TestContext.Current.CancellationToken;

    private static LoopbackReply Bad(string trouble)
    {
        var good = LoopbackReply.Answer("never seen whole");
        return trouble switch
        {
            "429" => LoopbackReply.Error(429, "slow down"),
            "500" => LoopbackReply.Error(500, "oops"),
            "503" => new LoopbackReply(503, "loading"u8.ToArray(), "text/plain"),
            "408" => new LoopbackReply(408, []),
            "cut head" => good with { KeptBytes = 12 },
            "cut body" => good with { KeptBytes = 150 },
            "dropped" => good with { KeptBytes = 0 },
            "truncated JSON" => good with { Body = good.Body[..40] },
            "no choices" => good with { Body = """{"choices":[]}"""u8.ToArray() },
            "no content" => good with { Body = """{"choices":[{"message":{"content":null},"text":null}]}"""u8.ToArray() },
            "HTML 200" => new LoopbackReply(200, "<html>login</html>"u8.ToArray(), "text/html"),
            "HTML 502" => new LoopbackReply(502, "<html>bad gateway</html>"u8.ToArray(), "text/html"),
            "slow" => good with { DelayMilliseconds = 10_000 },
            _ => throw new ArgumentException(trouble),
        };
    }
}
