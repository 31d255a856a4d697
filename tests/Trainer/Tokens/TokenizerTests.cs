using System.IO.Compression;
using System.Text;
using System.Text.Json.Nodes;
using FsCheck;
using FsCheck.Fluent;
using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Tokens;

/// <summary>Without shared data: a small trained tokenizer against a naive encoder, round trips on any text, and damaged files.</summary>
public class TokenizerTests
{
    private static readonly string[] s_corpus =
        [.. Enumerable.Range(0, 40).Select(i => $"def f{i}(x):\n    return x * {i} + len(\"naïve café {i}\")  # it's what we'll do, don't you?\n\n\n")];

    private static readonly Lazy<Tokenizer> s_small = new(() => TokenizerTrainer.Train(s_corpus, 300, ["<|end|>", "<|end|>x", "<think>"]));

    private static readonly string[] s_pieces =
    [
        "a", "the", " the", "  ", "\n", "\r\n", "\t", "'s", "'LL", "'\u017F", "12", "é", "e\u0301", "\u0301", "\u0323\u0307", "한", "\u1112\u1161\u11AB",
        "😀", "𝟘", "𠀀", "\uD800", "\uDC00", "<|end|>", "<|end|>x", "<|end|", "<think>", "...", "(x)", "\u00A0", "\u3000", "\u2028", "½", "ⅷ", "ﬁ", "\u212B",
    ];

    private static readonly Gen<string> s_text = Gen.Frequency(
        (3, Gen.Elements(s_pieces).ListOf().Select(p => string.Concat(p))),
        (1, Gen.Choose(0, 0xF7FF).Select(c => (char)(c < 0xD800 ? c : c + 0x800)).ListOf().Select(c => string.Concat(c))));

    [Fact]
    public void Encodes_as_the_naive_algorithm()
    {
        var merges = s_small.Value.Parts.Merges.ToDictionary(m => (m.Left, m.Right), m => m.Product);
        var order = s_small.Value.Parts.Merges.Select((m, rank) => ((m.Left, m.Right), rank)).ToDictionary(m => m.Item1, m => m.rank);
        Prop.ForAll(s_text.ToArbitrary(), text =>
        {
            var expected = new List<int>();
            var whole = Valid(text);
            foreach (System.Text.RegularExpressions.Match word in s_words.Matches(Nfc(whole)))
            {
                var ids = Encoding.UTF8.GetBytes(word.Value).Select(b => s_small.Value.IdOf(Printable(b))!.Value).ToList();
                while (true)
                {
                    var best = Enumerable.Range(0, Math.Max(0, ids.Count - 1)).Where(i => order.ContainsKey((ids[i], ids[i + 1])))
                        .OrderBy(i => order[(ids[i], ids[i + 1])]).ThenBy(i => i).Cast<int?>().FirstOrDefault();
                    if (best is not { } at)
                    {
                        break;
                    }

                    ids[at] = merges[(ids[at], ids[at + 1])];
                    ids.RemoveAt(at + 1);
                }

                expected.AddRange(ids);
            }

            Assert.Equal(expected, s_small.Value.Encode(whole, addedTokens: false));
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(500));
    }

    [Fact]
    public void Long_words_merge_in_the_same_order_as_short_ones()
    {
        // the words of up to 16 letters go through the scan, the long one through the heap: every prefix that both can hold must agree
        var tokenizer = TokenizerTrainer.Train([.. s_corpus, string.Concat(Enumerable.Repeat("abaababaabaab", 30))], 600, []);
        var parts = tokenizer.Parts;
        var order = parts.Merges.Select((m, rank) => ((m.Left, m.Right), (rank, m.Product))).ToDictionary(m => m.Item1, m => m.Item2);
        foreach (var length in (int[])[47, 48, 49, 50, 63, 64, 65, 96, 97, 130, 700])
        {
            var text = string.Concat(Enumerable.Range(0, length).Select(i => (i * 7 / 3 % 5) % 2 == 0 ? 'a' : 'b'));
            var ids = text.Select(c => tokenizer.IdOf(c.ToString())!.Value).ToList();
            while (Enumerable.Range(0, ids.Count - 1).Where(i => order.ContainsKey((ids[i], ids[i + 1]))).ToList() is { Count: > 0 } at)
            {
                var best = at.OrderBy(i => order[(ids[i], ids[i + 1])].rank).ThenBy(i => i).First();
                ids[best] = order[(ids[best], ids[best + 1])].Product;
                ids.RemoveAt(best + 1);
            }

            Assert.Equal(ids, tokenizer.Encode(text));
            Assert.Equal(ids, tokenizer.Encode(text));        // again, now from the cache
        }
    }

    [Fact]
    public void Decoding_what_was_encoded_gives_the_text_in_NFC()
    {
        Prop.ForAll(s_text.ToArbitrary(), text =>
        {
            var ids = s_small.Value.Encode(text, addedTokens: false);
            Assert.Equal(Nfc(Valid(text)), s_small.Value.Decode(ids));

            // with added tokens, the pieces between them are normalised on their own
            var pieces = System.Text.RegularExpressions.Regex.Split(Valid(text), @"(<\|end\|>x|<\|end\|>|<think>)");
            Assert.Equal(string.Concat(pieces.Select(Nfc)), s_small.Value.Decode(s_small.Value.Encode(text)));
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(500));
    }

    [Fact]
    public void Streaming_gives_what_decoding_at_once_gives()
    {
        var ids = Gen.Choose(-2, s_small.Value.VocabularySize + 2).ListOf().Select(l => l.ToArray());
        Prop.ForAll(ids.ToArbitrary(), list =>
        {
            foreach (var skip in (bool[])[false, true])
            {
                var stream = new TokenStream(s_small.Value, skip);
                var pieces = list.Select(stream.Append).ToList();
                Assert.DoesNotContain(pieces, p => p.Length > 0 && char.IsHighSurrogate(p[^1]));
                Assert.Equal(s_small.Value.Decode(list, skip), string.Concat(pieces) + stream.Flush());
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(500));
    }

    [Fact]
    public void Added_tokens_are_found_longest_first()
    {
        var tokenizer = s_small.Value;
        int end = tokenizer.IdOf("<|end|>")!.Value, longer = tokenizer.IdOf("<|end|>x")!.Value;
        Assert.Equal([longer, end], tokenizer.Encode("<|end|>x<|end|>"));
        Assert.Equal("", tokenizer.Decode([longer, end], skipSpecial: true));
        Assert.Equal("<|end|>x<|end|>", tokenizer.Decode(tokenizer.Encode("<|end|>x<|end|>", addedTokens: false), skipSpecial: true));
        Assert.DoesNotContain(end, tokenizer.Encode("<|end| >"));
    }

    [Fact]
    public void Encoding_allocates_nothing_once_warm()
    {
        var text = string.Concat(s_corpus) + new string('q', 5000) + "e\u0301 <|end|> 😀";
        var ids = new List<int>();
        var allocated = long.MaxValue;
        for (var end = Environment.TickCount64 + 20_000; allocated != 0 && Environment.TickCount64 < end;)
        {
            // until the JIT has replaced its first versions of the methods, which box
            ids.Clear();
            var before = GC.GetAllocatedBytesForCurrentThread();
            s_small.Value.Encode(text, ids);
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        }

        Assert.Equal(0, allocated);
        Assert.True(ids.Count > 1000);
    }

    [Fact]
    public void Many_threads_get_the_same_ids()
    {
        var texts = Enumerable.Range(0, 64).Select(i => string.Concat(s_corpus.Select(c => c + i + " zq" + (i * 31)))).ToArray();
        var expected = texts.Select(t => s_small.Value.Encode(t)).ToArray();
        Parallel.For(0, 256, i => Assert.Equal(expected[i % 64], s_small.Value.Encode(texts[i % 64])));
    }

    [Fact]
    public void Training_is_deterministic_and_survives_saving()
    {
        var again = TokenizerTrainer.Train(s_corpus.Reverse(), 300, ["<|end|>", "<|end|>x", "<think>"]);
        Assert.Equal(s_small.Value.Parts.Merges, again.Parts.Merges);
        Assert.Equal(303, again.VocabularySize);
        Assert.Equal("!", again.TokenOf(0));
        Assert.Equal(300, again.IdOf("<|end|>"));
        var json = new MemoryStream();
        TokenizerWriter.Write(again.Parts, json);
        var read = new Tokenizer(TokenizerReader.Read(json.ToArray(), "saved"));
        Assert.Equal(again.Parts.Merges, read.Parts.Merges);
        Assert.Equal(again.AddedTokens, read.AddedTokens);
        Assert.Equal(again.Encode(s_corpus[3]), read.Encode(s_corpus[3]));
        Assert.True(again.Encode(s_corpus[3]).Length < s_corpus[3].Length / 2);
    }

    [Fact]
    public void Each_merge_is_the_most_frequent_pair_of_what_the_earlier_ones_left()
    {
        var tokenizer = s_small.Value;
        var words = s_words.Matches(Nfc(string.Concat(s_corpus))).GroupBy(m => m.Value)
            .Select(g => (Ids: Encoding.UTF8.GetBytes(g.Key).Select(b => tokenizer.IdOf(Printable(b))!.Value).ToList(), Count: g.Count())).ToList();
        foreach (var (left, right, product) in tokenizer.Parts.Merges)
        {
            var counts = new Dictionary<(int, int), int>();
            foreach (var (ids, count) in words)
            {
                for (var i = 0; i + 1 < ids.Count; i++)
                {
                    counts[(ids[i], ids[i + 1])] = counts.GetValueOrDefault((ids[i], ids[i + 1])) + count;
                }
            }

            var best = counts.OrderByDescending(p => p.Value).ThenBy(p => p.Key.Item1).ThenBy(p => p.Key.Item2).First().Key;
            Assert.Equal(best, (left, right));
            foreach (var (ids, _) in words)
            {
                for (var i = 0; i + 1 < ids.Count; i++)
                {
                    if (ids[i] == left && ids[i + 1] == right)
                    {
                        ids[i] = product;
                        ids.RemoveAt(i + 1);
                    }
                }
            }
        }
    }

    [Theory]
    [InlineData(255)]
    [InlineData(int.MaxValue)]
    public void Impossible_vocabulary_sizes_are_refused(int size) =>
        Assert.Contains("256", Assert.Throws<InvalidInputException>(() => TokenizerTrainer.Train([], size, [])).Message);

    [Fact]
    public void Special_tokens_must_be_new() =>
        Assert.Contains("'a'", Assert.Throws<InvalidInputException>(() => TokenizerTrainer.Train([], 256, ["a"])).Message);

    [Theory]
    [InlineData("normalizer", """{"type":"NFKC"}""", "normalizer 'NFKC' is not supported")]
    [InlineData("normalizer", "[]", "normalizer is a list")]
    [InlineData("pre_tokenizer", "null", "pre_tokenizer is missing")]
    [InlineData("pre_tokenizer", """{"type":"Whitespace"}""", "pre_tokenizer 'Whitespace' is not supported")]
    [InlineData("pre_tokenizer", """{"type":"ByteLevel","add_prefix_space":true}""", "add_prefix_space 'true' is not supported")]
    [InlineData("pre_tokenizer", """{"type":"Sequence","pretokenizers":[{"type":"Digits"}]}""", "1 steps")]
    [InlineData("post_processor", """{"type":"TemplateProcessing"}""", "post_processor 'TemplateProcessing' is not supported")]
    [InlineData("decoder", "null", "decoder 'null' is not supported")]
    [InlineData("model", "7", "model is a number; an object is needed")]
    [InlineData("model.type", "\"Unigram\"", "model.type 'Unigram' is not supported")]
    [InlineData("model.dropout", "0.1", "model.dropout '0.1' is not supported")]
    [InlineData("model.end_of_word_suffix", "\"</w>\"", "'</w>' is not supported")]
    [InlineData("model.byte_fallback", "true", "model.byte_fallback 'true' is not supported")]
    [InlineData("model.byte_fallback", "1", "true or false is needed")]
    [InlineData("model.vocab", "[]", "model.vocab is a list; an object is needed")]
    [InlineData("model.vocab", "{}", "has no token")]
    [InlineData("model.vocab.a", "-1", "model.vocab['a'] is '-1'")]
    [InlineData("model.vocab.a", "1e9", "a whole number from 0")]
    [InlineData("model.vocab.a", "4194304", "a whole number from 0")]
    [InlineData("model.vocab.a", "1", "of another token")]
    [InlineData("model.merges", "{}", "model.merges is an object; a list is needed")]
    [InlineData("model.merges", """["a  b"]""", "two tokens are needed")]
    [InlineData("model.merges", """["a"]""", "two tokens are needed")]
    [InlineData("model.merges", """[["a"]]""", "two tokens are needed")]
    [InlineData("model.merges", """[["a","\ud800"]]""", "not valid Unicode")]
    [InlineData("model.merges", """["qq qq"]""", "model.merges[0] needs the token 'qq'")]
    [InlineData("model.merges", """["q q"]""", "model.merges[0] needs the token 'qq'")]
    [InlineData("added_tokens", "{}", "added_tokens is an object; a list is needed")]
    [InlineData("added_tokens", """[{"id":7,"content":"<x>"}]""", "added_tokens[0] gives '<x>' the id 7; that is the id of '(")]
    [InlineData("added_tokens", """[{"id":500,"content":"a"}]""", "model.vocab gives it the id 64")]
    [InlineData("added_tokens", """[{"id":500,"content":"<x>"},{"id":501,"content":"<x>"}]""", "repeats the text '<x>'")]
    [InlineData("added_tokens", """[{"id":500,"content":""}]""", "is empty")]
    [InlineData("added_tokens", """[{"content":"<x>"}]""", "added_tokens[0].id is missing")]
    [InlineData("added_tokens", """[{"id":500,"content":"<x>","lstrip":true}]""", "lstrip 'true' is not supported")]
    [InlineData("added_tokens", """[{"id":500,"content":"<x>"},{"id":500,"content":"<y>"}]""", "that is the id of '<x>'")]
    public void A_damaged_or_foreign_file_is_named_with_its_key(string key, string json, string part)
    {
        var root = Small();
        var at = root;
        var names = key.Split('.');
        foreach (var name in names[..^1])
        {
            at = at[name]!;
        }

        if (json.Contains("\\ud800"))
        {
            var text = root.ToJsonString().Replace("\"merges\":[", "\"merges\":[[\"a\",\"\\ud800\"],");
            Assert.Contains(part, Refused(Encoding.UTF8.GetBytes(text)));
            return;
        }

        at[names[^1]] = JsonNode.Parse(json);
        var message = Refused(Encoding.UTF8.GetBytes(root.ToJsonString()));
        Assert.StartsWith("t.json: ", message);
        Assert.Contains(part, message);
    }

    [Fact]
    public void Merges_given_twice_and_cut_files_are_refused()
    {
        var json = Small().ToJsonString();
        Assert.Contains("valid JSON at line", Refused(Encoding.UTF8.GetBytes(json[..(json.Length / 2)])));
        var root = Small();
        root["model"]!["merges"]!.AsArray().Add(root["model"]!["merges"]![0]!.DeepClone());
        Assert.Contains("repeats", Refused(Encoding.UTF8.GetBytes(root.ToJsonString())));
        Assert.Contains("is there twice", Refused(Encoding.UTF8.GetBytes(json.Replace("\"vocab\":{", "\"vocab\":{\"a\":399999,"))));
    }

    [Fact]
    public void Missing_and_broken_files_are_refused()
    {
        var folder = Directory.CreateTempSubdirectory("z1-tokenizer");
        try
        {
            Assert.Contains("does not exist", Assert.Throws<InvalidInputException>(() => Tokenizer.Load(folder.FullName)).Message);
            var path = Path.Combine(folder.FullName, "tokenizer.json.gz");
            File.WriteAllText(path, "not gzip");
            Assert.Contains("gzip", Assert.Throws<InvalidInputException>(() => Tokenizer.Load(folder.FullName)).Message);
            using (var gzip = new GZipStream(File.Create(path), CompressionLevel.Fastest))
            {
                gzip.Write(Encoding.UTF8.GetBytes(Small().ToJsonString()));
            }

            Assert.Equal(303, Tokenizer.Load(folder.FullName).VocabularySize);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fact]
    public void Fuzzed_files_never_throw_anything_else()
    {
        var json = Encoding.UTF8.GetBytes(Small().ToJsonString());
        var refused = 0;
        var change = Gen.Choose(0, json.Length - 1).Zip(Gen.Choose(0, 255)).ListOf(3);
        Prop.ForAll(change.ToArbitrary(), changes =>
        {
            var copy = json.ToArray();
            foreach (var (at, value) in changes)
            {
                copy[at] = (byte)value;
            }

            try
            {
                new Tokenizer(TokenizerReader.Read(copy, "t.json")).Encode("def f(x): return 'é'");
            }
            catch (InvalidInputException)
            {
                refused++;
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(400));
        Assert.True(refused > 100);
    }

    [Fact]
    public void The_GPT2_rule_cuts_as_its_expression()
    {
        var root = Small();
        root["pre_tokenizer"] = JsonNode.Parse("""{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}""");
        Read(root);
        var expression = new System.Text.RegularExpressions.Regex(@"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+");
        Prop.ForAll(s_text.ToArbitrary(), source =>
        {
            var text = string.Concat(source.Where(c => !char.IsSurrogate(c)));   // .NET's expressions see halves of pairs
            var at = 0;
            foreach (System.Text.RegularExpressions.Match word in expression.Matches(text))
            {
                Assert.Equal(word.Index, at);
                at = PreTokenizer.End(PreTokenizerRule.Gpt2, text, at);
                Assert.Equal(word.Index + word.Length, at);
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(500));

        static void Read(JsonNode root) =>
            Assert.Equal(PreTokenizerRule.Gpt2, TokenizerReader.Read(Encoding.UTF8.GetBytes(root.ToJsonString()), "t").Rule);
    }

    /// <summary>The Qwen2 expression for .NET, which sees UTF-16: pairs of surrogates are spelt out by what the test's pieces hold.</summary>
    private static readonly System.Text.RegularExpressions.Regex s_words = new(
        @"'[sS\u017FtTmMdD]|'(?:[rR][eE]|[vV][eE]|[lL][lL])|" + Words());

    private static string Words()
    {
        const string Letter = @"(?:\p{L}|[\uD800\uD840]\uDC00)", Number = @"(?:\p{N}|\uD835\uDFD8)", Not = @"(?![\uD800\uD840]\uDC00|\uD835\uDFD8)";
        const string Other = Not + @"(?:[\uD800-\uDBFF][\uDC00-\uDFFF]|[^\s\p{L}\p{N}])";
        return $@"(?:{Not}(?:[\uD800-\uDBFF][\uDC00-\uDFFF]|[^\r\n\p{{L}}\p{{N}}]))?{Letter}+|{Number}| ?(?:{Other})+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    }

    private static string Valid(string text) => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));

    private static string Nfc(string text) => new TokenizerNormalization().Compose(text).ToString();

    private static string Printable(byte value) =>
        (value is (>= 0x21 and <= 0x7E) or (>= 0xA1 and <= 0xAC) or >= 0xAE ? (char)value
            : (char)(0x100 + (value <= 0x20 ? value : value <= 0xA0 ? value - 0x7F + 0x21 : 0x43))).ToString();

    private static JsonNode Small()
    {
        var json = new MemoryStream();
        TokenizerWriter.Write(s_small.Value.Parts, json);
        return JsonNode.Parse(json.ToArray())!;
    }

    private static string Refused(byte[] json) => Assert.Throws<InvalidInputException>(() => TokenizerReader.Read(json, "t.json")).Message;
}
