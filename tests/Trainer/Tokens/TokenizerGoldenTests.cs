using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Tokens;

/// <summary>Every reference vector: ids and texts that Hugging Face tokenizers and llama.cpp produced.</summary>
public class TokenizerGoldenTests
{
    [Fact]
    public void Encodes_every_golden_line()
    {
        var lines = TokenData.Lines("golden-encode.jsonl").ToList();
        Assert.Equal(227, lines.Count);
        foreach (var line in lines)
        {
            var text = line.GetProperty("text").GetString()!;
            var ids = TokenData.Ints(line.GetProperty("ids"));
            Assert.Equal(ids, TokenData.Qwen2.Encode(text));
            Assert.Equal(line.GetProperty("decoded").GetString(), TokenData.Qwen2.Decode(ids));
            Assert.Equal(line.GetProperty("decoded_skip_special").GetString(), TokenData.Qwen2.Decode(ids, skipSpecial: true));
            var off = line.TryGetProperty("ids_added_tokens_off", out var other) ? TokenData.Ints(other) : ids;
            Assert.Equal(off, TokenData.Qwen2.Encode(text, addedTokens: false));
            var qwen3 = line.TryGetProperty("ids_qwen3", out other) ? TokenData.Ints(other) : ids;
            Assert.Equal(qwen3, TokenData.Qwen3.Encode(text));
        }
    }

    [Fact]
    public void Decodes_every_golden_line_whole_and_streamed()
    {
        var lines = TokenData.Lines("golden-decode.jsonl").ToList();
        Assert.Equal(148, lines.Count);
        foreach (var line in lines)
        {
            var ids = TokenData.Ints(line.GetProperty("ids"));
            var expected = line.GetProperty("decoded").GetString();
            Assert.Equal(expected, TokenData.Qwen2.Decode(ids));
            var stream = new TokenStream(TokenData.Qwen2);
            Assert.Equal(expected, string.Concat(ids.Select(stream.Append)) + stream.Flush());
        }
    }

    [Fact]
    public void Agrees_with_llama_cpp()
    {
        var folder = Path.Combine(TokenData.Folder("qwen-tokenizer"), "llama.cpp");
        var inputs = File.ReadAllText(Path.Combine(folder, "ggml-vocab-qwen2.gguf.inp")).Split("\n__ggml_vocab_test__\n");
        var outputs = File.ReadAllLines(Path.Combine(folder, "ggml-vocab-qwen2.gguf.out"));
        Assert.Equal(46, outputs.Length);
        for (var i = 0; i < outputs.Length; i++)
        {
            var expected = outputs[i].Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse).ToArray();
            Assert.Equal(expected, TokenData.Qwen2.Encode(inputs[i]));
        }
    }

    [Fact]
    public void Names_ids_and_tokens()
    {
        var tokenizer = TokenData.Qwen2;
        Assert.Equal(151665, tokenizer.VocabularySize);
        Assert.Equal(151669, TokenData.Qwen3.VocabularySize);
        Assert.Equal(151645, tokenizer.IdOf("<|im_end|>"));
        Assert.Null(tokenizer.IdOf("<think>"));
        Assert.Equal(151667, TokenData.Qwen3.IdOf("<think>"));
        Assert.Equal("<|endoftext|>", tokenizer.TokenOf(151643));
        Assert.Null(tokenizer.TokenOf(151665));
        Assert.Null(tokenizer.TokenOf(-1));
        Assert.True(tokenizer.IsSpecial(151643));
        Assert.False(tokenizer.IsSpecial(151657));
        Assert.False(tokenizer.IsSpecial(151665));
        Assert.Equal("", tokenizer.Decode([151665, -1, int.MaxValue]));
    }

    [Fact]
    public void Saved_again_it_is_the_same()
    {
        var folder = Directory.CreateTempSubdirectory("z1-tokenizer");
        try
        {
            foreach (var path in (string[])[folder.FullName, Path.Combine(folder.FullName, "other.json.gz")])
            {
                TokenData.Qwen3.Save(path);
                var again = Tokenizer.Load(path);
                Assert.Equal(TokenData.Qwen3.VocabularySize, again.VocabularySize);
                Assert.Equal(TokenData.Qwen3.AddedTokens, again.AddedTokens);
                foreach (var line in TokenData.Lines("golden-encode.jsonl"))
                {
                    var text = line.GetProperty("text").GetString()!;
                    Assert.Equal(TokenData.Qwen3.Encode(text), again.Encode(text));
                }
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fact]
    public void A_long_run_without_spaces_is_not_quadratic()
    {
        var text = string.Concat(Enumerable.Range(0, 200_000).Select(i => (char)('a' + (i * i % 26))));
        var start = Environment.TickCount64;
        var ids = TokenData.Qwen2.Encode(text);
        Assert.Equal(text, TokenData.Qwen2.Decode(ids));
        Assert.Equal(ids[..50], TokenData.Qwen2.Encode(text[..100_000])[..50]);
        Assert.True(Environment.TickCount64 - start < 5000, "two hundred thousand letters take well under a second");
    }
}
