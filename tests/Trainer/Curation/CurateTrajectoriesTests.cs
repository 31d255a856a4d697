using System.Globalization;
using System.Text.Json;
using Xunit;
using Z1Coder.Perf;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>z1 curate trajectories as a process, against a real server: what it writes, what it survives, and how it stops.</summary>
public sealed class CurateTrajectoriesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("z1-curate-").FullName;

    private string Problems => Path.Combine(_folder, "problems.jsonl");

    private string Out => Path.Combine(_folder, "out.jsonl");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Problems_become_training_records_in_the_published_words()
    {
        File.WriteAllText(Problems, """[{"instruction": "Add two numbers. ", "input": "1 2", "output": "ignored"}, {"instruction": "Sort.", "input": "", "output": ""}]""");
        using var server = new ScriptedTeacher((prompt, _) =>
            LoopbackReply.Answer(prompt.Contains("Sort", StringComparison.Ordinal) ? "sorted()" : "3", "stop", 11, 22));
        var json = Z1Here.Run(Command(server, "--json", "--price-in", "1000000", "--price-out", "10")).Json();
        Assert.Equal((2, 2, 0, 0), (Number(json, "items"), Number(json, "kept"), Number(json, "failed"), Number(json, "done_before")));
        Assert.Equal((22, 44), (Number(json, "prompt_tokens"), Number(json, "completion_tokens")));
        Assert.Equal(22 + (44 * 10e-6), json.GetProperty("cost").GetDouble(), 9);
        Assert.Equal("/v1/completions", server.Last!.Path);
        const string Published =
            "You are an exceptionally intelligent coding assistant that consistently delivers accurate and reliable responses to user instructions.\n"
            + "@@ Instruction\n{0}\n\n@@ Response\n";
        Assert.Equal(
            new[] { string.Format(CultureInfo.InvariantCulture, Published, "Add two numbers.\n\n1 2"),
                string.Format(CultureInfo.InvariantCulture, Published, "Sort.") }.Order(),
            server.Asked.Keys.Order());
        var records = new SftReader(null, BrokenLinePolicy.Stop, new DataReport()).Read(Out).OrderBy(r => r.Id).ToList();
        Assert.Equal(["Add two numbers.\n\n1 2", "Sort."], records.Select(r => r.Prompt));
        Assert.Equal(["3", "sorted()"], records.Select(r => r.Response));
        using var line = JsonDocument.Parse(File.ReadLines(Out).First());
        Assert.Equal("stop", line.RootElement.GetProperty("finish_reason").GetString());
        Assert.Equal(64, line.RootElement.GetProperty("request").GetProperty("prompt trajectory").GetString()!.Length);

        // again: nothing is asked; with another temperature: refused; a longer input: only the rest is asked
        var before = File.ReadAllBytes(Out);
        Assert.Equal(2, Number(Z1Here.Run(Command(server, "--json")).Json(), "done_before"));
        Z1Here.Run(Command(server, "--temperature", "0.7")).FailedWith(Out, "temperature was 0 and is 0.7", "--allow-changed");
        Assert.Equal(2, server.Requests);
        Assert.Equal(before, File.ReadAllBytes(Out));
        File.WriteAllText(Problems, """[{"instruction": "New."}, {"instruction": "Sort."}, {"instruction": "New."}]""");
        Assert.Equal(1, Number(Z1Here.Run(Command(server, "--json")).Json(), "kept"));
        Assert.Equal(3, server.Requests);
    }

    [Fact]
    public void After_twenty_kills_at_random_moments_nothing_is_lost_and_nothing_finished_was_asked_for_again()
    {
        const int Items = 1500, Kills = 20, Concurrency = 8;
        WriteProblems(Items);
        var random = new Random(7);
        using var server = new ScriptedTeacher((prompt, before) => Id(prompt) % 97 == 13 && before % 2 == 0
            ? LoopbackReply.Error(503, "busy")
            : LoopbackReply.Answer($"answer {Id(prompt)}") with { DelayMilliseconds = 2 });
        var (kills, durable, asked) = (0, new HashSet<int>(), new Dictionary<string, int>());
        while (kills < Kills)
        {
            using var z1 = Z1.Start(Command(server, "--concurrency", $"{Concurrency}", "--back-off", "0.01", "--progress-every", "0.05"));
            Assert.True(z1.WaitForLines(1), "it ended before it could be killed");
            var requests = server.Requests + random.Next(1, 60);
            while (server.Requests < requests && !z1.HasExited)
            {
                Thread.Sleep(1);
            }

            Thread.Sleep(random.Next(0, 3));
            if (z1.HasExited)
            {
                break;
            }

            z1.Kill();
            z1.Wait();
            kills++;

            // what an earlier life had finished was not asked for in this one; the rest is at most what was in flight when it was killed
            foreach (var (prompt, count) in server.Asked)
            {
                Assert.False(durable.Contains(Id(prompt)) && count > asked[prompt],
                    $"item {Id(prompt)} was finished and was asked for again");
            }

            asked = server.Asked.ToDictionary();
            durable = Durable();
            Assert.InRange(asked.Keys.Count(p => !durable.Contains(Id(p))), 0, (kills + 1) * Concurrency);
            if (kills % 5 == 0)
            {
                File.AppendAllText(Out, "{\"key\":\"0123");           // and a torn line, as if the kill had hit the write
            }
        }

        Assert.Equal(Kills, kills);
        Assert.Contains("1500 records", Z1Here.Run(Command(server, "--concurrency", "32", "--back-off", "0.01")).Succeeded().Output);
        Assert.Equal(Enumerable.Range(0, Items), Durable().Order());
        Assert.Equal(Items, File.ReadAllLines(Out).Length);
        foreach (var (prompt, count) in server.Asked)
        {
            Assert.False(durable.Contains(Id(prompt)) && count > asked[prompt], $"item {Id(prompt)} was finished and was asked for again");
        }
    }

    [Fact]
    public void SIGTERM_lets_items_in_flight_finish_and_exits_0()
    {
        WriteProblems(200);
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Answer("slow") with { DelayMilliseconds = 400 });
        using var z1 = Z1.Start(Command(server, "--concurrency", "10", "--progress-every", "0.1"));
        Assert.True(z1.WaitForLines(1));
        while (server.Requests < 15)
        {
            Thread.Sleep(5);
        }

        z1.Terminate();
        var result = z1.Wait().Succeeded();
        Assert.Contains("stopped by SIGTERM", result.Output);
        Assert.Equal(server.Requests, Durable().Count);
        Assert.True(server.Requests < 200);
        Assert.Equal(200, Number(Z1Here.Run(Command(server, "--concurrency", "100", "--json")).Json(), "items"));
        Assert.All(server.Asked, a => Assert.Equal(1, a.Value));
    }

    [Fact]
    public void The_grace_time_ends_and_what_did_not_finish_is_asked_for_again()
    {
        WriteProblems(4);
        var slow = true;
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Answer("x") with { DelayMilliseconds = slow ? 60_000 : 0 });
        using var z1 = Z1.Start(Command(server, "--grace", "0.2"));
        while (server.Requests < 4)
        {
            Thread.Sleep(5);
        }

        z1.Terminate();
        Assert.Contains("stopped by SIGTERM; 0 records so far", z1.Wait().Succeeded().Output);       // every item had been begun, none ended
        Assert.Empty(Durable());
        slow = false;
        Z1Here.Run(Command(server)).Succeeded();
        Assert.Equal(4, Durable().Count);
    }

    [Fact]
    public void An_expired_key_stops_with_one_sentence_and_keeps_what_is_finished()
    {
        WriteProblems(50);
        var expired = true;
        using var server = new ScriptedTeacher((prompt, _) => expired && Id(prompt) >= 20 ? LoopbackReply.Error(401, "expired", "expired")
            : LoopbackReply.Answer("x"));
        Z1.RunWith("MY_KEY", "k", Command(server, "--key-from", "MY_KEY", "--concurrency", "2"))
            .FailedWith("refused the key in MY_KEY", "401: expired", "are kept");
        Assert.InRange(Durable().Count, 18, 20);
        Assert.InRange(server.Requests, 20, 23);
        expired = false;
        Z1.RunWith("MY_KEY", "k", Command(server, "--key-from", "MY_KEY")).Succeeded();
        Assert.Equal(50, Durable().Count);
        Assert.True(server.Asked.Values.Sum() <= 53);
    }

    [Fact]
    public void Items_without_an_answer_are_counted_named_and_asked_for_again()
    {
        WriteProblems(30);
        var down = true;
        using var server = new ScriptedTeacher((prompt, _) => down && Id(prompt) % 10 == 3 ? LoopbackReply.Error(500, "broken")
            : LoopbackReply.Answer("x"));
        var result = Z1Here.Run(Command(server, "--retries", "2", "--back-off", "0.01"));
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("3 items got no answer, for example problems.jsonl:", result.Error);
        Assert.Contains("500: broken", result.Error);
        Assert.Equal(27, Durable().Count);
        down = false;
        Z1Here.Run(Command(server)).Succeeded();
        Assert.Equal(30, Durable().Count);
    }

    [Fact]
    public void Items_that_are_too_long_are_dropped_for_good_and_other_refusals_do_not_stop_a_run_that_gets_answers()
    {
        WriteProblems(120);
        using var server = new ScriptedTeacher((prompt, _) => (Id(prompt) % 100) switch
        {
            >= 10 and < 40 => LoopbackReply.Error(400, "too long", "context_length_exceeded"),
            >= 40 and < 50 => LoopbackReply.Error(400, "This model's maximum context length is 8 tokens. However, you requested 9 tokens."),
            >= 50 and < 80 => LoopbackReply.Error(422, "not this one"),
            _ => LoopbackReply.Answer("x"),
        });
        var result = Z1Here.Run(Command(server, "--concurrency", "1"));
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("50 too long for the teacher, for example problems.jsonl:", result.Output);
        Assert.Contains("30 items got no answer, for example problems.jsonl:", result.Error);
        Assert.Contains("422: not this one", result.Error);
        Assert.Equal(120 - 80, Durable().Count);
        var dropped = File.ReadAllLines(Path.ChangeExtension(Out, null) + ".dropped.jsonl");
        Assert.Equal(50, dropped.Length);
        Assert.Contains("\"verdict\":\"too long for the teacher\",\"id\":\"problems.jsonl:11\",\"error\":\"the teacher at", dropped[0]);
        Assert.Contains("20 items in a row got no answer", Z1Here.Run(Command(server)).Error);
        Assert.All(server.Asked, a => Assert.Equal(1, Id(a.Key) is >= 50 and < 80 ? 1 : a.Value));
    }

    [Fact]
    public void A_first_item_that_is_too_long_waits_for_an_answer_and_without_one_nothing_is_dropped()
    {
        WriteProblems(22);
        var fits = false;
        using var server = new ScriptedTeacher((prompt, _) => fits && Id(prompt) > 0 ? LoopbackReply.Answer("x")
            : LoopbackReply.Error(400, "too long", "context_length_exceeded"));
        Z1Here.Run(Command(server, "--concurrency", "1")).FailedWith("20 items in a row got no answer", "400: too long", "0 items of this run are kept");
        Assert.Equal(20, server.Requests);
        fits = true;
        var json = Z1Here.Run(Command(server, "--concurrency", "1", "--json")).Json();
        Assert.Equal((0, 21, 1, 0), (Number(json, "done_before"), Number(json, "kept"), Number(json, "dropped"), Number(json, "failed")));
        Assert.Equal(22, Number(Z1Here.Run(Command(server, "--json")).Json(), "done_before"));
    }

    [Fact]
    public void A_server_that_went_down_stops_the_run()
    {
        WriteProblems(200);
        using var server = new ScriptedTeacher((prompt, _) => Id(prompt) < 50 ? LoopbackReply.Answer("x")
            : new LoopbackReply(200, "<html></html>"u8.ToArray()));
        Z1Here.Run(Command(server, "--retries", "0", "--concurrency", "4"))
            .FailedWith("20 items in a row got no answer", "HTML instead of JSON", "are kept");
        Assert.InRange(server.Requests, 70, 100);          // a late success among the first failures starts the count again
        Assert.Equal(50, Durable().Count);
    }

    [Fact]
    public void Bad_input_is_one_sentence()
    {
        WriteProblems(3);
        using var server = new ScriptedTeacher((_, _) => LoopbackReply.Answer("x"));
        Z1Here.Run("curate", "trajectories", Problems, "--out", Out).WasMisused("--teacher");
        Z1Here.Run(Command(server, "--api", "telepathy")).WasMisused("telepathy");
        Z1Here.Run(Command(server, "--concurrency", "0")).WasMisused("--concurrency 0");
        Z1Here.Run(Command(server, "--timeout", "-1")).WasMisused("--timeout -1");
        Z1Here.Run(Command(server, "--prompts", _folder)).FailedWith("trajectory.txt", "cannot be read");
        File.WriteAllText(Path.Combine(_folder, "trajectory.txt"), "Say hello to {{name}}.");
        Z1Here.Run(Command(server, "--prompts", _folder)).FailedWith("trajectory.txt", "does not use {{problem}}");
        Z1Here.Run(Command(server, "--fields", "prompt=q")).FailedWith("problems.jsonl line 1", "no field 'q'");
        File.AppendAllText(Problems, "{\"question\":\n");
        Z1Here.Run(Command(server)).FailedWith("problems.jsonl line 4");
        Assert.Equal(0, server.Requests);
        Z1Here.Run(Command(server, "--skip-broken")).Succeeded();
        Assert.Equal(3, server.Requests);
        Z1Here.Run(["curate", "trajectories", Path.Combine(_folder, "none"), .. Command(server)[3..]]).FailedWith("none");
        Assert.Contains("asks for nothing twice", Z1Here.Run("curate", "trajectories", "--help").Succeeded().Output);
    }

    private static long Number(JsonElement json, string name) => json.GetProperty(name).GetInt64();

    private static int Id(string prompt)
    {
        var at = prompt.IndexOf("Problem ", StringComparison.Ordinal) + 8;
        return int.Parse(prompt.AsSpan(at, prompt.IndexOf('.', at) - at));
    }

    private string[] Command(ScriptedTeacher server, params string[] more) =>
        ["curate", "trajectories", Problems, "--teacher", server.BaseUrl, "--model", "m", "--out", Out, .. more];

    private void WriteProblems(int count) =>
        File.WriteAllLines(Problems, Enumerable.Range(0, count).Select(i => $"{{\"question\": \"Problem {i}. Do it.\"}}"));

    /// <summary>Items whose whole line is on disk.</summary>
    private HashSet<int> Durable()
    {
        if (!File.Exists(Out))
        {
            return [];
        }

        var text = File.ReadAllText(Out);
        return [.. text[..(text.LastIndexOf('\n') + 1)].Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line =>
        {
            using var json = JsonDocument.Parse(line);
            return Id(json.RootElement.GetProperty("question").GetString()!);
        })];
    }
}
