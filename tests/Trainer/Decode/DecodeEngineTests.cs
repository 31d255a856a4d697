using FsCheck;
using FsCheck.Fluent;
using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Decode;

/// <summary>Ends, limits and slots of the paged engine, on a model that writes a known text.</summary>
public sealed class DecodeEngineTests : IDisposable
{
    private const string Story = StoryModel.Story;

    private readonly StoryModel _model = new();

    private Tokenizer Tokenizer => _model.Tokenizer;

    public void Dispose() => _model.Dispose();

    [Theory]
    [InlineData("0", 3, "", "", "123", FinishReason.Length, 3)]
    [InlineData("c", 4, "", "", "dé\uFFFD", FinishReason.Length, 4)]                 // the limit cuts 日 after its first byte
    [InlineData("c", 100, "f", "", "dé日", FinishReason.EndToken, 6)]
    [InlineData("c", 6, "f", "", "dé日", FinishReason.Length, 6)]               // the limit comes first
    [InlineData("c", 7, "f", "", "dé日", FinishReason.EndToken, 6)]
    [InlineData("a", 100, "b", "", "", FinishReason.EndToken, 0)]
    [InlineData("a", 100, "g", "", "bcdé日f", FinishReason.EndToken, 9)]
    [InlineData("a", 100, "", "fgh", "bcdé日", FinishReason.StopString, 11)]    // over three tokens
    [InlineData("a", 100, "", "é", "bcd", FinishReason.StopString, 5)]          // over the bytes of one character
    [InlineData("a", 100, "", "日f", "bcdé", FinishReason.StopString, 9)]
    [InlineData("a", 100, "", "b", "", FinishReason.StopString, 1)]
    [InlineData("a", 100, "", "ab", "bcdé日fgh-ijkl", FinishReason.EndToken, 16)] // the prompt is not part of the answer; ended below
    [InlineData("f", 5, "", "-i", "gh", FinishReason.StopString, 4)]
    [InlineData("f", 4, "", "-i", "gh", FinishReason.StopString, 4)]            // on the last token allowed: the stop string counts
    [InlineData("f", 3, "", "-i", "gh-", FinishReason.Length, 3)]
    [InlineData("f", 100, "", "l|hhh|gh-i", "", FinishReason.StopString, 4)]
    [InlineData("f", 100, "", "h-ij|j", "g", FinishReason.StopString, 5)]       // one token completes both: the earlier start
    [InlineData("f", 100, "", "j|h-ij", "g", FinishReason.StopString, 5)]       // in whatever order they are given
    [InlineData("f", 100, "", "hij|-", "gh", FinishReason.StopString, 3)]
    public void Ends(string prompt, int limit, string end, string stops, string text, FinishReason finish, int tokens)
    {
        int[] ends = stops == "ab" ? [Tokenizer.Encode("𝄞")[0]] : end.Length == 0 ? [] : Tokenizer.Encode(end);
        using var engine = _model.Engine(slots: 1, capacity: 200);
        var options = new GenerateOptions(limit, ends, stops.Split('|', StringSplitOptions.RemoveEmptyEntries));
        var completion = engine.Generate([Tokenizer.Encode(prompt)], options, null, Token)[0];
        Assert.Equal((text, finish, tokens), (completion.Text, completion.Finish, completion.Tokens.Length));
        Assert.Equal(Tokenizer.Encode(Story).SkipWhile(t => t != Tokenizer.Encode(prompt)[^1]).Skip(1).Take(tokens), completion.Tokens);
    }

    [Fact]
    public void The_context_ends_a_completion()
    {
        using var engine = _model.Engine(slots: 1, capacity: 9);
        var options = new GenerateOptions(100, [], []);
        Assert.Equal("ijkl", Text("fgh-", 5).Text[..4]);
        Assert.Equal("i", Text("abcdfgh-", 1).Text);

        Completion Text(string prompt, int tokens)
        {
            var completion = engine.Generate([Tokenizer.Encode(prompt)], options, null, Token)[0];
            Assert.Equal((FinishReason.Length, tokens), (completion.Finish, completion.Tokens.Length));    // both fill the context
            return completion;
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(9)]
    [InlineData(50)]
    public void A_prompt_that_leaves_no_room_is_refused_before_anything_runs(int length)
    {
        using var engine = _model.Engine(slots: 2, capacity: 9);
        var finished = 0;
        var message = Assert.Throws<InvalidInputException>(() => engine.Generate(
            [Tokenizer.Encode("a"), new int[length]], new GenerateOptions(3, [], []), (_, _) => finished++, Token)).Message;
        Assert.Contains($"prompt 1: the prompt has {length} tokens", message);
        Assert.Equal(0, finished);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(20)]
    public void More_prompts_than_slots(int slots)
    {
        string[] prompts = ["0", "q", "a", "y", "m", "i", "x", "0123", "w", "abc", "z"];
        using var engine = _model.Engine(slots, capacity: 100);
        var finished = new Dictionary<int, Completion>();
        for (var round = 0; round < 2; round++)              // an engine can be used again
        {
            finished.Clear();
            var completions = engine.Generate(
                [.. prompts.Select(p => Tokenizer.Encode(p))], new GenerateOptions(100, Tokenizer.Encode("."), []), finished.Add, Token);
            for (var i = 0; i < prompts.Length; i++)
            {
                var after = Story.IndexOf(prompts[i][^1]) + 1;
                Assert.Equal((Story[after..Story.IndexOf('.')], FinishReason.EndToken), (completions[i].Text, completions[i].Finish));
                Assert.Same(completions[i], finished[i]);
            }
        }
    }

    [Fact]
    public void Prompts_that_do_not_fit_one_prefill_are_read_in_several()
    {
        using var engine = _model.Engine(slots: 4, capacity: 1100);
        string[] prompts = [.. Enumerable.Range(0, 5).Select(i => new string('0', 1000 + i) + Story[^(10 - i)])];
        var completions = engine.Generate([.. prompts.Select(p => Tokenizer.Encode(p))], new GenerateOptions(3, [], []), null, Token);
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.Equal(Story.Substring(Story.Length - (10 - i) + 1, 3), completions[i].Text);
        }
    }

    [Fact]
    public void Cancelling_throws_between_tokens()
    {
        using var engine = _model.Engine(slots: 1, capacity: 100);
        using var source = new CancellationTokenSource();
        int[][] prompts = [Tokenizer.Encode("x"), Tokenizer.Encode("a")];
        var options = new GenerateOptions(100, Tokenizer.Encode("."), []);
        Assert.Throws<OperationCanceledException>(() => engine.Generate(prompts, options, (_, _) => source.Cancel(), source.Token));
    }

    [Fact]
    public void Without_a_tokenizer_there_are_tokens_only_and_no_prompts_are_no_completions()
    {
        using var engine = _model.Engine(slots: 2, capacity: 100, text: false);
        var completion = engine.Generate([Tokenizer.Encode("a")], new GenerateOptions(2, [], ["c"]), null, Token)[0];
        Assert.Equal(Tokenizer.Encode("bc"), completion.Tokens);
        Assert.Equal("", completion.Text);
        Assert.Empty(engine.Generate([], new GenerateOptions(1, [], []), null, Token));
    }

    [Fact]
    public void A_cancelled_sequence_gives_its_pages_back_and_the_others_go_on()
    {
        using var engine = _model.Engine(new DecodeEngineOptions { Slots = 2, Capacity = 200, PageTokens = 4 });
        using var source = new CancellationTokenSource();
        var ends = new List<(int Index, Completion Completion)>();
        var text = "";
        string[] prompts = ["0", "a", "abc"];                       // the last waits for a slot
        for (var i = 0; i < prompts.Length; i++)
        {
            var index = i;
            engine.Submit(_model.Ask(prompts[i], new GenerateOptions(100, Tokenizer.Encode("."), [])) with
            {
                Cancellation = i == 1 ? Token : source.Token,
                Updated = update =>
                {
                    text += index == 0 ? update.Text : "";
                    if (update.Completion is { } completion)
                    {
                        ends.Add((index, completion));
                    }
                },
            });
        }

        for (var step = 0; step < 4; step++)
        {
            Assert.True(engine.Step());
        }

        Assert.Equal((1, 2), (engine.Stats.Waiting, engine.Stats.Active));
        source.Cancel();
        engine.Step();
        Assert.Equal((0, 1), (engine.Stats.Waiting, engine.Stats.Active));
        while (engine.Step())
        {
        }

        Assert.Equal([2, 0, 1], ends.Select(e => e.Index));
        Assert.Equal([FinishReason.Cancelled, FinishReason.Cancelled, FinishReason.EndToken], ends.Select(e => e.Completion.Finish));
        Assert.Equal("123abcdé"[..text.Length], text);
        Assert.Equal(text, ends[1].Completion.Text);
        Assert.Equal(Story[(Story.IndexOf('a') + 1)..Story.IndexOf('.')], ends[2].Completion.Text);
        Assert.Equal((0, 0, 0), (engine.Stats.PagesUsed, engine.Stats.Active, engine.Stats.Waiting));
    }

    [Fact]
    public void Samples_of_one_prompt_share_its_pages()
    {
        const int Samples = 8, PageTokens = 4;
        string prompt = new string('0', 41) + "a";                    // 42 tokens: ten pages and two tokens
        using var engine = _model.Engine(new DecodeEngineOptions { Slots = Samples, Capacity = 64, PageTokens = PageTokens });
        var most = 0;
        var completions = engine.Generate(
            [.. Enumerable.Repeat(_model.Ask(prompt, new GenerateOptions(6, [], [])) with { Updated = _ => most = Math.Max(most, engine.Stats.PagesUsed) }, Samples)],
            null, Token);
        Assert.All(completions, c => Assert.Equal("bcdé", c.Text[..4]));
        Assert.Equal([0, .. Enumerable.Repeat(40, Samples - 1)], completions.Select(c => c.CachedTokens));
        Assert.Equal((Samples * 42, (Samples - 1) * 40), (engine.Stats.PromptTokens, engine.Stats.CachedTokens));
        Assert.InRange(most, 10 + Samples, 10 + (2 * Samples));        // the shared ten, and each one's own
        Assert.Equal(40, engine.Generate([_model.Ask(prompt, new GenerateOptions(1, [], []))], null, Token)[0].CachedTokens);     // still there
    }

    [Fact]
    public void A_sequence_that_the_cache_cannot_hold_is_refused()
    {
        using var engine = _model.Engine(new DecodeEngineOptions { Slots = 2, Capacity = 64, PageTokens = 4, CacheTokens = 30 });
        Assert.Single(engine.Generate([_model.Ask(new string('0', 20), new GenerateOptions(12, [], []))], null, Token));        // eight pages
        Assert.Contains("may take 33 tokens, the cache holds 32", Assert.Throws<InvalidInputException>(
            () => engine.Submit(_model.Ask(new string('0', 20), new GenerateOptions(13, [], [])))).Message);
        Assert.Contains("holds id 260", Assert.Throws<InvalidInputException>(
            () => engine.Submit(new DecodeRequest { Prompt = [3, 260], Options = new GenerateOptions(1, [], []) })).Message);
    }

    /// <summary>Whatever is asked for, in whatever cache: every sequence ends once, with its own text, and no page stays held.</summary>
    [Fact]
    public void Every_schedule_ends_with_every_text()
    {
        var request = Gen.Choose(0, 60).Zip(Gen.Choose(1, 40)).Zip(Gen.Choose(0, 9));
        var engine = Gen.Choose(1, 5).Zip(Gen.Choose(0, 3)).Zip(Gen.Choose(28, 80)).Zip(Gen.Elements(true, false));
        Prop.ForAll(request.ListOf().Zip(engine).ToArbitrary(), drawn =>
        {
            var (requests, (((slots, pageBits), cache), share)) = drawn;
            using var paged = _model.Engine(new DecodeEngineOptions
            {
                Slots = slots, Capacity = 100, PageTokens = 1 << pageBits, CacheTokens = cache + 75, SharePrefixes = share, PromptRows = 24,
            });
            using var source = new CancellationTokenSource();
            var ends = new Completion?[requests.Count];
            for (var i = 0; i < requests.Count; i++)
            {
                var (index, ((length, tokens), kind)) = (i, requests[i]);
                var prompt = new string("0123456789"[index % 3], length) + "abcd"[index % 4];
                paged.Submit(_model.Ask(prompt, new GenerateOptions(tokens, [], [])) with
                {
                    Cancellation = kind == 0 ? source.Token : Token,
                    Updated = update =>
                    {
                        Assert.Null(ends[index]);
                        ends[index] = update.Completion;
                        if (kind == 1)
                        {
                            source.Cancel();
                        }
                    },
                });
            }

            while (paged.Step())
            {
                Assert.True(paged.Stats.PagesUsed <= paged.Stats.Pages && paged.Stats.Active <= slots);
            }

            for (var i = 0; i < requests.Count; i++)
            {
                var ((length, tokens), kind) = requests[i];
                var story = Tokenizer.Encode(Story);
                var expected = story.AsSpan(Array.IndexOf(story, Tokenizer.Encode("abcd"[i % 4].ToString())[0]) + 1)[..Math.Min(tokens, 99 - length)].ToArray();
                Assert.NotNull(ends[i]);
                Assert.True(ends[i]!.Finish is FinishReason.Length || (kind == 0 && ends[i]!.Finish is FinishReason.Cancelled));
                Assert.Equal(ends[i]!.Finish is FinishReason.Length ? expected : expected[..ends[i]!.Tokens.Length], ends[i]!.Tokens);
            }

            Assert.Equal((0, 0, 0), (paged.Stats.PagesUsed, paged.Stats.Active, paged.Stats.Waiting));
        }).QuickCheckThrowOnFailure();
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;
}
