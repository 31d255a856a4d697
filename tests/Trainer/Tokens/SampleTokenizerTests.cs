using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Tokens;

public sealed class SampleTokenizerTests
{
    private const string NoInput =
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        + "### Instruction:\n do it\n\n### Response:";

    private const string WithInput =
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        + "Write a response that appropriately completes the request.\n\n### Instruction:\n do it\n\n### Input:\n5\n\n### Response:";

    private static readonly SftRecord s_plain = new("r", " do it", "", "yes");

    private static readonly SftRecord s_chat = SftRecord.Chat("c",
        [new("system", "sys"), new("user", "u1"), new("assistant", "a1"), new("user", "u2"), new("assistant", "a2"), new("user", "left over")]);

    [Theory]
    [InlineData(TokenizationRule.Separate)]
    [InlineData(TokenizationRule.Published)]
    public void Alpaca_is_the_published_text(TokenizationRule rule)
    {
        var options = new DatasetOptions { Format = PromptFormat.Alpaca, Tokenization = rule };
        Expect(Tokenize(options, s_plain), (NoInput, false), ("yes<|im_end|>", true));
        Expect(Tokenize(options, s_plain with { Input = "5" }), (WithInput, false), ("yes<|im_end|>", true));
        Expect(Tokenize(options, SftRecord.Chat("x", [new("user", " do it"), new("assistant", "yes")])), (NoInput, false), ("yes<|im_end|>", true));
        Assert.Null(Maker(options).Tokenize(s_chat, out var verdict));
        Assert.Equal(DropReasons.NotSingleTurn, verdict.Reason);
    }

    [Theory]
    [InlineData(TokenizationRule.Separate)]
    [InlineData(TokenizationRule.Published)]
    public void Chat_strips_the_question_and_ends_at_the_end_token(TokenizationRule rule)
    {
        var options = new DatasetOptions { Tokenization = rule };
        Expect(
            Tokenize(options, s_plain with { Response = " yes \n" }),
            ("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\ndo it<|im_end|>\n<|im_start|>assistant\n", false),
            (" yes \n<|im_end|>", true));
        Expect(
            Tokenize(options, s_plain with { Input = "5" }),
            ("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\ndo it\n\n5<|im_end|>\n<|im_start|>assistant\n", false),
            ("yes<|im_end|>", true));
    }

    [Fact]
    public void Of_several_turns_the_last_answer_carries_loss_or_all_do()
    {
        const string before = "<|im_start|>system\nsys<|im_end|>\n<|im_start|>user\nu1<|im_end|>\n<|im_start|>assistant\n";
        const string between = "\n<|im_start|>user\nu2<|im_end|>\n<|im_start|>assistant\n";
        Expect(Tokenize(new DatasetOptions(), s_chat), (before + "a1<|im_end|>" + between, false), ("a2<|im_end|>", true));
        Expect(
            Tokenize(new DatasetOptions { Turns = TrainTurns.All }, s_chat),
            (before, false), ("a1<|im_end|>", true), (between, false), ("a2<|im_end|>", true));
    }

    [Fact]
    public void All_turns_need_a_template_that_renders_turns_alike_and_ends_them()
    {
        var options = new DatasetOptions { Turns = TrainTurns.All };
        var forgetful = new SampleTokenizer(options, ToyTokens.Encode, ToyTokens.End, (messages, open) =>
            ToyTokens.ChatMl([.. messages.Select(m => m.IsAssistant ? m with { Content = "…" } : m)], open));
        Assert.Contains("record c: the chat template renders earlier answers differently",
            Assert.Throws<InvalidInputException>(() => forgetful.Tokenize(s_chat, out _)).Message, StringComparison.Ordinal);
        var other = new SampleTokenizer(options, ToyTokens.Encode, endToken: 9, ToyTokens.ChatMl);
        Assert.Contains("end token 9", Assert.Throws<InvalidInputException>(() => other.Tokenize(s_chat, out _)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidInputException>(() => Maker(options with { Format = PromptFormat.Alpaca }));
        Assert.Throws<InvalidInputException>(() => Maker(options with { Tokenization = TokenizationRule.Published }));
        Assert.Throws<InvalidInputException>(() => new SampleTokenizer(new DatasetOptions(), ToyTokens.Encode, 2, null));
    }

    [Fact]
    public void A_token_across_the_boundary_tells_the_two_rules_apart()
    {
        // prompt "…a", response "bc": together "ab" is one token, so the published rule masks it whole, and the response loses its b
        var record = new SftRecord("r", "x", "", "bc");
        static string EndsInA(IReadOnlyList<ChatMessage> messages, bool open) => messages[0].Content + "a";
        var separate = new SampleTokenizer(new DatasetOptions(), ToyTokens.Encode, ToyTokens.End, EndsInA).Tokenize(record, out _)!;
        var published = new SampleTokenizer(
            new DatasetOptions { Tokenization = TokenizationRule.Published }, ToyTokens.Encode, ToyTokens.End, EndsInA).Tokenize(record, out _)!;
        var (x, a, b, c) = ('x' + ToyTokens.FirstCharacter, 'a' + ToyTokens.FirstCharacter, 'b' + ToyTokens.FirstCharacter, 'c' + ToyTokens.FirstCharacter);
        Assert.Equal([x, a, b, c, ToyTokens.End], separate.Tokens);
        Assert.Equal([new TokenSpan(2, 5)], separate.Loss);
        Assert.Equal([x, ToyTokens.Merged, c, ToyTokens.End], published.Tokens);
        Assert.Equal([new TokenSpan(2, 4)], published.Loss);
    }

    [Theory]
    [InlineData(TokenizationRule.Separate, TrainTurns.Last)]
    [InlineData(TokenizationRule.Published, TrainTurns.Last)]
    [InlineData(TokenizationRule.Separate, TrainTurns.All)]
    public void Every_maximum_length(TokenizationRule rule, TrainTurns turns)
    {
        var options = new DatasetOptions { Tokenization = rule, Turns = turns };
        var whole = Tokenize(options, s_chat);
        for (var max = 2; max <= whole.Length + 1; max++)
        {
            var cut = Maker(options with { MaxLength = max }).Tokenize(s_chat, out var verdict);
            var expected = Marks(whole)[..Math.Min(max, whole.Length)];
            if (expected.Any(mark => mark.Loss))
            {
                Assert.Equal(expected, Marks(cut!));
                Assert.True(verdict.IsKept);
                Assert.Equal(whole.Length - cut!.Length, cut.TokensCut);
                Assert.Equal(max < whole.Length, cut.LostEndToken);
            }
            else
            {
                Assert.Null(cut);
                Assert.Equal(DropReasons.NoLossToken, verdict.Reason);
            }

            var dropped = Maker(options with { MaxLength = max, OverLength = OverLengthPolicy.Drop }).Tokenize(s_chat, out verdict);
            Assert.Equal(max < whole.Length, dropped is null);
            Assert.Equal(max < whole.Length ? DropReasons.TooLong : null, verdict.Reason);
        }
    }

    [Fact]
    public void An_end_token_inside_the_response_is_noticed()
    {
        Assert.False(Tokenize(new DatasetOptions(), s_plain).EndTokenInside);
        Assert.True(Tokenize(new DatasetOptions(), s_plain with { Response = "a<|im_end|>b" }).EndTokenInside);
    }

    [Fact]
    public void The_first_token_is_never_predicted()
    {
        Assert.Equal(2, new TokenizedSample("x", [5, 6, 7], new TokenSpan(0, 3)).LossTokens);
        Assert.Equal(0, new TokenizedSample("x", [5, 6, 7], new TokenSpan(0, 1)).LossTokens);
        Assert.Throws<ArgumentException>(() => new TokenizedSample("x", [5, 6, 7], new TokenSpan(1, 4)));
        Assert.Throws<ArgumentException>(() => new TokenizedSample("x", [5, 6, 7], new TokenSpan(1, 2), new TokenSpan(0, 1)));
    }

    private static SampleTokenizer Maker(DatasetOptions options) => new(options, ToyTokens.Encode, ToyTokens.End, ToyTokens.ChatMl);

    private static TokenizedSample Tokenize(DatasetOptions options, SftRecord record)
    {
        var sample = Maker(options).Tokenize(record, out var verdict);
        Assert.True(verdict.IsKept);
        return sample!;
    }

    private static (int Token, bool Loss)[] Marks(TokenizedSample sample) =>
        [.. sample.Tokens.Select((token, i) => (token, sample.Loss.Any(span => span.Start <= i && i < span.End)))];

    /// <summary>The sample is these texts one after another, with loss on those marked.</summary>
    private static void Expect(TokenizedSample sample, params (string Text, bool Loss)[] parts)
    {
        var marks = Marks(sample);
        Assert.Equal(string.Concat(parts.Select(p => p.Text)), ToyTokens.Decode(marks.Select(m => m.Token)));
        Assert.Equal(parts.SelectMany(p => ToyTokens.Encode(p.Text).Select(token => (token, p.Loss))), marks);
        Assert.Equal(marks.Skip(1).Count(m => m.Loss), sample.LossTokens);
        Assert.Equal(marks.TakeWhile(m => !m.Loss).Count(), sample.PromptTokens);
    }
}
