using System.IO.Compression;
using System.Text;
using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Data;

public sealed class SftReaderTests : IDisposable
{
    private const string Ab = """{"question":"a","response":"b"}""";

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("z1data");

    public void Dispose() => _folder.Delete(recursive: true);

    public static TheoryData<string, int> UntidyButWhole() => new()
    {
        { Ab, 1 },
        { Ab + "\n", 1 },
        { Ab + "\r\n" + Ab + "\r\n", 2 },
        { "\uFEFF" + Ab + "\n" + Ab, 2 },
        { Ab + "\n\uFEFF" + Ab + "\n", 2 },
        { "\n\n  \n" + Ab + "\n\r\n\t\n" + Ab + "\n\n", 2 },
        { "  " + Ab + "  \n", 1 },
        { "[]", 0 },
        { "", 0 },
        { "\uFEFF", 0 },
        { " \r\n ", 0 },
        { "[" + Ab + "]", 1 },
        { "\uFEFF \n [\n" + Ab + " ,\r\n\r\n" + Ab + "\n]\n\n", 2 },
        { """{"response":"b","question":"a","other":{"x":[1,2,{"question":"no"}]}}""", 1 },
    };

    [Theory]
    [MemberData(nameof(UntidyButWhole))]
    public void Untidy_files_are_read(string text, int records)
    {
        foreach (var gzip in (bool[])[false, true])
        {
            var read = Read(Write(text, gzip), out var report);
            Assert.Equal(records, read.Count);
            Assert.Equal(records, report.Records);
            Assert.All(read, record => Assert.Equal(("a", "", "b"), (record.Prompt, record.Input, record.Response)));
        }
    }

    [Fact]
    public void The_name_of_a_file_says_nothing()
    {
        Assert.Single(Read(Write(Ab, gzip: true, "x.json"), out _));
        Assert.Single(Read(Write("[" + Ab + "]", gzip: false, "x.jsonl"), out _));
        Assert.Single(Read(Write(Ab, gzip: false, "x.gz"), out _));
    }

    // text, then what the message must name
    public static TheoryData<string, string[]> Broken() => new()
    {
        { Ab + "\n" + Ab[..20], ["t.json line 2", "not valid JSON"] },
        { Ab + ",\n", ["t.json line 1", "not valid JSON"] },
        { Ab + "\n\n" + Ab + " garbage", ["t.json line 3", "not valid JSON at byte 32"] },
        { Ab + "\n7", ["t.json line 2", "expected a JSON object, found a number"] },
        { Ab + "\n[1]", ["t.json line 2", "expected a JSON object, found a list"] },
        { Ab + "\n" + """{"question":"a"}""", ["t.json line 2", "no field 'response'", "keys question"] },
        { Ab + "\n" + """{"question":"a","response":null}""", ["line 2", "field 'response' is null, expected a string"] },
        { Ab + "\n" + """{"question":["a"],"response":"b"}""", ["line 2", "field 'question' is a list, expected a string"] },
        { Ab + "\n" + """{"question":"a","response":"x\ud83dy"}""", ["line 2", "surrogate"] },
        { Ab + "\n" + """{"question":"a","response":"\udc00"}""", ["line 2", "surrogate"] },
        { "[" + Ab + ",\n\n7]", ["t.json item 1 (line 3)", "found a number"] },
        { "[\n" + Ab + ",\n" + """{"question":"a"}]""", ["t.json item 1 (line 3)", "no field 'response'"] },
    };

    [Theory]
    [MemberData(nameof(Broken))]
    public void A_broken_line_stops_or_is_skipped_and_counted(string text, string[] named)
    {
        var path = Write(text, gzip: false, "t.json");
        var e = Assert.Throws<InvalidInputException>(() => Read(path, out _));
        Assert.All(named, part => Assert.Contains(part, e.Message, StringComparison.Ordinal));
        Assert.DoesNotContain("\n", e.Message, StringComparison.Ordinal);

        var kept = Read(path, out var report, BrokenLinePolicy.Skip);
        var good = text.Split('\n').Count(line => line.Trim().TrimStart('[').TrimEnd(',', ']') == Ab && line.TrimEnd()[^1] != ',') is var n && text[0] == '[' ? 1 : n;
        Assert.Equal(good, kept.Count);
        Assert.Equal(1, report.CountOf(DropReasons.BrokenLine));
        Assert.Equal(good + 1, report.Records);
        Assert.Contains(named[0], Assert.Single(Assert.Single(report.Drops).Examples), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[{\"question\":\"a\",\"response\":\"b\"},]", "line 1: the JSON array is broken after 1 items")]
    [InlineData("[{\"question\":\"a\",\"response\":\"b\"}\n,\n{\"question\":", "line 3: the JSON array is broken after 1 items")]
    [InlineData("[{\"question\":\"a\",\"response\":\"b\"}\n", "broken after 1 items")]
    [InlineData("[{\"question\":\"a\",\"response\":\"b\"}\n{\"question\":\"a\"}]", "line 2: the JSON array is broken after 1 items")]
    [InlineData("[{\"question\":\"a\",\"response\":\"b\"}]\n]", "line 2: the JSON array is broken after 1 items")]
    [InlineData("[", "broken after 0 items")]
    public void A_broken_array_stops_under_either_policy(string text, string named)
    {
        foreach (var policy in Enum.GetValues<BrokenLinePolicy>())
        {
            var e = Assert.Throws<InvalidInputException>(() => Read(Write(text), out _, policy));
            Assert.Contains(named, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Invalid_utf8_is_named_with_its_byte()
    {
        var path = Write("");
        File.WriteAllBytes(path, [.. Encoding.UTF8.GetBytes(Ab + "\n{\"question\":\"é"), 0xC3, 0x28, .. "\",\"response\":\"b\"}"u8]);
        var e = Assert.Throws<InvalidInputException>(() => Read(path, out _));
        Assert.Contains("line 2: not valid UTF-8 at byte 15", e.Message, StringComparison.Ordinal);
        Assert.Single(Read(path, out var report, BrokenLinePolicy.Skip));
        Assert.Equal(1, report.CountOf(DropReasons.BrokenLine));
    }

    [Fact]
    public void Utf16_is_named()
    {
        var path = Write("");
        File.WriteAllText(path, Ab, Encoding.Unicode);
        Assert.Contains("UTF-16", Assert.Throws<InvalidInputException>(() => Read(path, out _)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_gzip_file_cut_at_any_byte_is_an_error()
    {
        var whole = File.ReadAllBytes(Write(string.Join('\n', Enumerable.Range(0, 200).Select(i => $$"""{"question":"{{i * i}}","response":"{{i}}"}""")), gzip: true));
        var path = Write("");
        for (var length = 2; length < whole.Length; length += length < 64 || length > whole.Length - 32 ? 1 : 7)
        {
            File.WriteAllBytes(path, whole[..length]);
            var e = Record.Exception(() => Read(path, out _, BrokenLinePolicy.Skip));
            Assert.True(e is InvalidInputException && e.Message.Contains("gzip", StringComparison.Ordinal), $"cut at {length} of {whole.Length}: {e}");
        }

        whole[^5] ^= 1;                        // the checksum
        File.WriteAllBytes(path, whole);
        Assert.Contains("gzip", Assert.Throws<InvalidInputException>(() => Read(path, out _)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Missing_files_directories_and_unknown_keys_are_named()
    {
        var missing = Path.Combine(_folder.FullName, "none.jsonl");
        Assert.Contains(missing, Assert.Throws<InvalidInputException>(() => Read(missing, out _)).Message, StringComparison.Ordinal);
        Assert.Contains("is a directory", Assert.Throws<InvalidInputException>(() => Read(_folder.FullName, out _)).Message, StringComparison.Ordinal);

        var unknown = Write("""{"frage":"a","antwort":"b"}""", gzip: false, "u.jsonl");
        var e = Assert.Throws<InvalidInputException>(() => Read(unknown, out _, BrokenLinePolicy.Skip));
        Assert.Contains("u.jsonl line 1", e.Message, StringComparison.Ordinal);
        Assert.Contains("frage, antwort", e.Message, StringComparison.Ordinal);
        Assert.Equal("b", Assert.Single(Read(unknown, out _, BrokenLinePolicy.Stop, new FieldMap("frage", "antwort"))).Response);
    }

    [Theory]
    [InlineData("""{"instruction":"a","input":"i","output":"b"}""", "i")]
    [InlineData("""{"instruction":"a","input":null,"output":"b"}""", "")]
    [InlineData("""{"instruction":"a","output":"b","response":"no"}""", "")]
    [InlineData("""{"instruction":"a","input":"i","gpt4o_output":"no","output":"b"}""", "i")]
    [InlineData("""{"prompt":"a","completion":"b"}""", "")]
    [InlineData("""{"question":"a","answer":"b","input":"no"}""", "")]
    public void The_usual_names_are_known(string text, string input)
    {
        var record = Assert.Single(Read(Write(text), out _));
        Assert.Equal(("a", input, "b"), (record.Prompt, record.Input, record.Response));
    }

    [Fact]
    public void Ids_are_the_records_own_or_file_and_place()
    {
        var own = Read(Write("""{"id":"x1","question":"a","response":"b"}""" + "\n" + """{"id":7,"question":"a","response":"b"}""" + "\n" + Ab, gzip: false, "f.jsonl"), out _);
        Assert.Equal(["x1", "7", "f.jsonl:3"], own.Select(r => r.Id));
        Assert.Equal(["g.json[0]", "g.json[1]"], Read(Write($"[{Ab},{Ab}]", gzip: false, "g.json"), out _).Select(r => r.Id));
    }

    [Fact]
    public void Messages_of_every_shape()
    {
        const string text = """
            {"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":"c"}]}
            {"messages":[{"role":"user","content":[{"type":"text","value":"q"}]},{"role":"assistant","content":[{"type":"reasoning","value":"why"},{"type":"text","value":"t"}]}]}
            {"messages":[{"role":"user","content":"q"},{"role":"assistant","reasoning_content":"why\n","content":"t"}]}
            {"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"text","value":"t"},{"type":"tool_call","value":"{}"}]},{"role":"tool","content":"r"}]}
            """;
        var records = Read(Write(text), out _);
        Assert.Equal([new("system", "s"), new("user", "ab"), new("assistant", "c")], records[0].Messages!);
        Assert.Equal([new("user", "q"), new("assistant", "<think>\nwhy\n</think>\n\nt")], records[1].Messages!);
        Assert.Equal(records[1].Messages!, records[2].Messages!);
        Assert.Equal([new("user", "q"), new("assistant", "t\n<tool_call>\n{}\n</tool_call>"), new("tool", "r")], records[3].Messages!);

        var shareGpt = Read(Write("""{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"id":"z"}"""), out _);
        Assert.Equal([new("user", "q"), new("assistant", "a")], Assert.Single(shareGpt).Messages!);
    }

    [Theory]
    [InlineData("""{"messages":[{"role":"user","content":"q"},{"role":"assistent","content":"a"}]}""", "turn 1: role \"assistent\" is not one of")]
    [InlineData("""{"messages":[{"role":"user"}]}""", "turn 0: no field 'content' among the keys role")]
    [InlineData("""{"messages":[{"content":"q"}]}""", "turn 0: no field 'role'")]
    [InlineData("""{"messages":["q"]}""", "turn 0: a string where an object")]
    [InlineData("""{"messages":[{"role":"user","content":5}]}""", "turn 0: content is a number")]
    [InlineData("""{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}""", "type 'image_url'")]
    [InlineData("""{"messages":[{"role":"user","content":[{"text":"x"}]}]}""", "not an object with a type")]
    [InlineData("""{"messages":[{"role":5,"content":"x"}]}""", "role 5 is not one of")]
    public void Broken_turns_are_named(string text, string named)
    {
        var e = Assert.Throws<InvalidInputException>(() => Read(Write(text), out _));
        Assert.Contains(named, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Lengths_around_the_buffer_and_lines_of_megabytes(bool array)
    {
        // every record's text is known from its length, and lengths fall on both sides of each doubling of the buffer
        var lengths = Enumerable.Range(0, 200).Select(i => i * 37 % 997)
            .Concat([65_400, 65_500, 65_536, 65_537, 131_000, 131_072, 3, 5_000_000, 1, 262_144, 2]).ToArray();
        var lines = lengths.Select(n => JsonSerializer.Serialize(new Dictionary<string, string>
        {
            ["question"] = new string('é', n) + "\n\"[{,",
            ["response"] = $"{n}",
        }));
        var text = array ? "[" + string.Join(" ,\n ", lines) + "]" : string.Join('\n', lines);
        foreach (var piece in (int[])[1 << 20, 4093])
        {
            using var stream = new Dribble(Encoding.UTF8.GetBytes(text), piece);
            var records = new SftReader(null, BrokenLinePolicy.Stop, new DataReport()).Read(stream, "x").ToList();
            Assert.Equal(lengths.Length, records.Count);
            for (var i = 0; i < lengths.Length; i++)
            {
                Assert.Equal($"{lengths[i]}", records[i].Response);
                Assert.Equal(lengths[i] + 5, records[i].Prompt.Length);
                Assert.Equal($"x{(array ? $"[{i}]" : $":{i + 1}")}", records[i].Id);
            }
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Whatever_the_pieces_in_which_the_bytes_come(bool array)
    {
        var text = array ? $"\uFEFF\n[ {Ab} ,\n{Ab}\n]\n" : $"\uFEFF{Ab}\r\n\r\n{Ab}";
        for (var piece = 1; piece <= 80; piece++)
        {
            using var stream = new Dribble(Encoding.UTF8.GetBytes(text), piece);
            var records = new SftReader(null, BrokenLinePolicy.Stop, new DataReport()).Read(stream, "x").ToList();
            Assert.Equal(array ? ["x[0]", "x[1]"] : ["x:1", "x:3"], records.Select(r => r.Id));
            Assert.All(records, r => Assert.Equal(("a", "b"), (r.Prompt, r.Response)));
        }
    }

    private string Write(string text, bool gzip = false, string name = "t.data")
    {
        var path = Path.Combine(_folder.FullName, name);
        using var file = File.Create(path);
        using Stream stream = gzip ? new GZipStream(file, CompressionLevel.Fastest) : file;
        stream.Write(Encoding.UTF8.GetBytes(text));
        return path;
    }

    private static List<SftRecord> Read(string path, out DataReport report, BrokenLinePolicy policy = BrokenLinePolicy.Stop, FieldMap? map = null)
    {
        report = new DataReport();
        return [.. new SftReader(map, policy, report).Read(path)];
    }

    /// <summary>Gives at most so many bytes at a time.</summary>
    private sealed class Dribble(byte[] bytes, int piece) : MemoryStream(bytes)
    {
        public override int Read(byte[] buffer, int offset, int count) => base.Read(buffer, offset, Math.Min(count, piece));
    }
}
