using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Decode;

/// <summary>What a sequence tells as it grows, one byte a token, and what decides its draws.</summary>
public sealed class DecodeSequenceTests
{
    private static readonly Tokenizer s_tokenizer = TokenizerTrainer.Train(["x"], 257, ["<|end|>"]);

    [Theory]
    [InlineData("abcdef", "", "a|b|c|d|e|f")]
    [InlineData("abcdef", "cd", "a|b||")]                    // c may begin the stop string, d completes it
    [InlineData("abcxef", "cd", "a|b||cx|e|f")]              // it did not
    [InlineData("aacaab", "aab", "||aac|||")]                // "aa" may begin it again and again
    [InlineData("ababac", "abac", "|||ab||")]                // the later of two beginnings completes: the earlier comes out first
    [InlineData("abcabd", "bcx abd", "||a|bc||")]            // the longest beginning of several stop strings counts
    [InlineData("abc", "cdef", "a|b|c")]                     // the end of all brings out what was held
    public void Text_that_a_stop_string_may_take_back_is_held(string written, string stops, string told)
    {
        var tokens = s_tokenizer.Encode(written);
        var sequence = new DecodeSequence(new GenerateOptions(tokens.Length, [], stops.Split(' ', StringSplitOptions.RemoveEmptyEntries)), 1, s_tokenizer);
        var pieces = new List<string>();
        foreach (var token in tokens)
        {
            if (sequence.Finish is null)
            {
                sequence.Accept(token, capacity: 1000);
                sequence.Length++;
                pieces.Add(sequence.Take());
            }
        }

        Assert.Equal(told, string.Join('|', pieces));
        Assert.Equal(sequence.Text, string.Concat(pieces));
        Assert.Equal("", sequence.Take());
    }

    [Fact]
    public void A_draw_depends_on_seed_and_counter_and_not_on_the_other_rows()
    {
        const int Vocabulary = 1000, Rows = 3;
        using var stream = new CpuStream(2);
        using var arena = new Arena("logits");
        var logits = arena.Declare<float>(Rows, Vocabulary);
        arena.Allocate();
        logits.Span.Clear();                                   // every token alike: two draws agree once in a thousand
        using var sampler = new Sampler<float>(stream, Rows);
        int Draw(ulong seed, int counter, params (Sampling, int)[] others)
        {
            var tokens = new int[1 + others.Length];
            sampler.Draw(stream, logits.Rows(0, tokens.Length), [(new Sampling(1, 1, 0, seed), counter), .. others], tokens);
            return tokens[0];
        }

        var alone = Draw(5, 7);
        Assert.Equal(alone, Draw(5, 7, (Sampling.Greedy, 0), (new Sampling(0.5f, 0.9f, 3, 8), 7)));
        Assert.InRange(Enumerable.Range(0, 20).Select(n => Draw(5, n)).Distinct().Count(), 18, 20);
        Assert.InRange(Enumerable.Range(0, 20).Select(n => Draw((ulong)n, 7)).Distinct().Count(), 18, 20);
    }
}
