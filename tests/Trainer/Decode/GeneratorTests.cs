using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Decode;

/// <summary>
/// Ends, limits and slots, on a model that writes a known text: its layers add nothing, and the head row of each token is the embedding of
/// the token before it in <see cref="Story"/>. |embedding|² = D stands against chance products of about √D: no token is in doubt.
/// </summary>
public sealed class GeneratorTests : IDisposable
{
    private const string Story = "0123abcdé日fgh-ijkl𝄞mnopqrstuvwxyz.ABCDEFGHIJ";   // no byte twice

    private readonly CpuStream _stream = new(2);
    private readonly Tokenizer _tokenizer = TokenizerTrainer.Train(["x"], 257, ["<|end|>"]);
    private readonly ParameterSet<float> _weights;
    private readonly Qwen2<float> _model;

    public GeneratorTests()
    {
        var config = new Qwen2Config
        {
            ModelType = "qwen2", HiddenSize = 128, NumHiddenLayers = 1, NumAttentionHeads = 2, NumKeyValueHeads = 1, HeadDim = 64,
            IntermediateSize = 16, VocabSize = 260, MaxPositionEmbeddings = 4096, RmsNormEps = 1e-6, RopeTheta = 1e4,
            TieWordEmbeddings = false, AttentionBias = true,
        };
        _weights = new ParameterSet<float>("weights", new Qwen2Parameters(config));
        _weights.Arena.Allocate();
        RandomWeights.Fill(_weights, seed: 1, initializerRange: 1);
        var tensors = _weights.ByName.ToDictionary(p => p.Parameter.Name, p => p.Tensor);
        tensors["model.layers.0.self_attn.o_proj.weight"].Span.Clear();
        tensors["model.layers.0.mlp.down_proj.weight"].Span.Clear();
        var story = _tokenizer.Encode(Story);
        Assert.Equal(story.Length, story.Distinct().Count());
        for (var i = 0; i + 1 < story.Length; i++)
        {
            tensors["model.embed_tokens.weight"].Row(story[i]).CopyTo(tensors["lm_head.weight"].Row(story[i + 1]));
        }

        _model = new Qwen2<float>(_weights);
    }

    public void Dispose()
    {
        _weights.Dispose();
        _stream.Dispose();
    }

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
        int[] ends = stops == "ab" ? [_tokenizer.Encode("𝄞")[0]] : end.Length == 0 ? [] : _tokenizer.Encode(end);
        using var generator = new Generator<float>(_stream, _model, _tokenizer, slots: 1, capacity: 200);
        var options = new GenerateOptions(limit, ends, stops.Split('|', StringSplitOptions.RemoveEmptyEntries));
        var completion = generator.Generate([_tokenizer.Encode(prompt)], options, null, Token)[0];
        Assert.Equal((text, finish, tokens), (completion.Text, completion.Finish, completion.Tokens.Length));
        Assert.Equal(_tokenizer.Encode(Story).SkipWhile(t => t != _tokenizer.Encode(prompt)[^1]).Skip(1).Take(tokens), completion.Tokens);
    }

    [Fact]
    public void The_context_ends_a_completion()
    {
        using var generator = new Generator<float>(_stream, _model, _tokenizer, slots: 1, capacity: 9);
        var options = new GenerateOptions(100, [], []);
        Assert.Equal("ijkl", Text("fgh-", 5).Text[..4]);
        Assert.Equal("i", Text("abcdfgh-", 1).Text);

        Completion Text(string prompt, int tokens)
        {
            var completion = generator.Generate([_tokenizer.Encode(prompt)], options, null, Token)[0];
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
        using var generator = new Generator<float>(_stream, _model, _tokenizer, slots: 2, capacity: 9);
        var finished = 0;
        var message = Assert.Throws<InvalidInputException>(() => generator.Generate(
            [_tokenizer.Encode("a"), new int[length]], new GenerateOptions(3, [], []), (_, _) => finished++, Token)).Message;
        Assert.Contains($"prompt 1 has {length} tokens", message);
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
        using var generator = new Generator<float>(_stream, _model, _tokenizer, slots, capacity: 100);
        var finished = new Dictionary<int, Completion>();
        for (var round = 0; round < 2; round++)              // a generator can be used again
        {
            finished.Clear();
            var completions = generator.Generate(
                [.. prompts.Select(p => _tokenizer.Encode(p))], new GenerateOptions(100, _tokenizer.Encode("."), []), finished.Add, Token);
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
        using var generator = new Generator<float>(_stream, _model, _tokenizer, slots: 4, capacity: 1100);
        string[] prompts = [.. Enumerable.Range(0, 5).Select(i => new string('0', 1000 + i) + Story[^(10 - i)])];
        var completions = generator.Generate([.. prompts.Select(p => _tokenizer.Encode(p))], new GenerateOptions(3, [], []), null, Token);
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.Equal(Story.Substring(Story.Length - (10 - i) + 1, 3), completions[i].Text);
        }
    }

    [Fact]
    public void Cancelling_throws_between_tokens()
    {
        using var generator = new Generator<float>(_stream, _model, _tokenizer, slots: 1, capacity: 100);
        using var source = new CancellationTokenSource();
        int[][] prompts = [_tokenizer.Encode("x"), _tokenizer.Encode("a")];
        var options = new GenerateOptions(100, _tokenizer.Encode("."), []);
        Assert.Throws<OperationCanceledException>(() => generator.Generate(prompts, options, (_, _) => source.Cancel(), source.Token));
    }

    [Fact]
    public void Weights_are_read_at_every_call_and_no_prompts_are_no_completions()
    {
        using var generator = new Generator<float>(_stream, _model, null, slots: 2, capacity: 100);
        var options = new GenerateOptions(1, [], []);
        int[] prompt = _tokenizer.Encode("a");
        Assert.Equal(_tokenizer.Encode("b"), generator.Generate([prompt], options, null, Token)[0].Tokens);
        var head = _weights.ByName.Single(p => p.Parameter.Name == "lm_head.weight").Tensor;
        head.Row(_tokenizer.Encode("b")[0]).CopyTo(head.Row(_tokenizer.Encode("Z")[0]));
        head.Row(_tokenizer.Encode("b")[0]).Clear();
        Assert.Equal(_tokenizer.Encode("Z"), generator.Generate([prompt], options, null, Token)[0].Tokens);
        Assert.Empty(generator.Generate([], options, null, Token));
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;
}
