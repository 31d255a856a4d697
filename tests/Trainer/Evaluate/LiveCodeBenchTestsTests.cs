using System.IO.Compression;
using System.Text;
using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>Tests that stay packed: what they hash to, and what they hold; alone, because the managed heap is the whole process's.</summary>
[Collection("alone")]
public sealed class LiveCodeBenchTestsTests
{
    private const int Tasks = 4, Characters = 8 << 20;

    [Fact]
    public void Hashes_are_those_of_earlier_runs()
    {
        var live = Benchmark.Find("livecodebench");
        Assert.Equal(
            ["e8185d7d18fbc7e9", "f4c458292be0450c"],
            live.Read([Path.Combine(TinyBenchmarks.Folder("livecodebench_problems.jsonl"), "livecodebench_problems.jsonl")]).Select(EvaluationFiles.HashOf));
        var published = live.Read([TestFiles.Benchmark("livecodebench-original-format-sample.jsonl")]);
        Assert.Equal("5fa4d1445690119d3e8669f08742ddeaf4ea8addb2006a2aa38b4ad01264b316", OutcomeJournal.KeyOf(published.Select(EvaluationFiles.HashOf)));
    }

    [Theory]
    [InlineData("stdin")]
    [InlineData("functional")]
    public void What_a_file_packs_is_held_packed(string type)
    {
        var test = new { input = new string('1', Characters), output = "1", testtype = type };
        var row = (int i) => new
        {
            question_id = $"{i}", question_content = "q", public_test_cases = "[]", private_test_cases = Packed(JsonSerializer.Serialize<object[]>([test])),
            metadata = type == "stdin" ? "{}" : """{"func_name": "f"}""",
        };
        var file = TestFiles.Temporary(TinyBenchmarks.Lines([.. Enumerable.Range(0, Tasks).Select(row)]));
        Assert.Equal(Tasks, Benchmark.Find("livecodebench").Read([file]).Count);        // fills the pools of buffers
        var before = GC.GetTotalMemory(forceFullCollection: true);
        var tasks = Benchmark.Find("livecodebench").Read([file]);
        var read = GC.GetTotalMemory(forceFullCollection: true) - before;
        Assert.All(tasks, t => Assert.Equal(t.Hash, EvaluationFiles.HashOf(t with { Hash = null })));
        var asked = GC.GetTotalMemory(forceFullCollection: true) - before;
        Assert.All([read, asked], held => Assert.True(held < sizeof(char) * Characters / 4, $"{held} bytes are held for {Tasks} tasks"));
        GC.KeepAlive(tasks);
    }

    private static string Packed(string text)
    {
        var utf8 = Encoding.UTF8.GetBytes(text);
        using var packed = new MemoryStream();
        using (var zip = new ZLibStream(packed, CompressionLevel.Fastest))
        {
            zip.Write([0x80, 4, (byte)'X', .. BitConverter.GetBytes(utf8.Length), .. utf8, (byte)'.']);
        }

        return Convert.ToBase64String(packed.ToArray());
    }
}
