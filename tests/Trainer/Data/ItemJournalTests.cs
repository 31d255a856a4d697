using System.Text;
using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Data.Journal;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Data;

/// <summary>What is on disk after appends, kills and changed minds.</summary>
public sealed class ItemJournalTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("z1-journal-").FullName;

    private string Out => Path.Combine(_folder, "out.jsonl");

    private string DroppedFile => Path.Combine(_folder, "out.dropped.jsonl");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Kept_and_dropped_items_are_done_and_the_kept_are_training_records()
    {
        using (var journal = Open())
        {
            Assert.True(journal.Claim(1) && journal.Claim(2) && !journal.Claim(1));
            await journal.AppendAsync(1, Verdict.Keep, Record("a", "q \u2028\"", "r\n```"));
            await journal.AppendAsync(2, Verdict.Drop("too short"), Record("b", "q", "r"));
            Assert.Equal(2, journal.Commits);
        }

        var record = Assert.Single(new SftReader(null, BrokenLinePolicy.Stop, new DataReport()).Read(Out));
        Assert.Equal(new SftRecord("a", "q \u2028\"", "", "r\n```"), record);
        using var dropped = JsonDocument.Parse(Assert.Single(File.ReadAllLines(DroppedFile)));
        Assert.Equal("too short", dropped.RootElement.GetProperty("verdict").GetString());
        Assert.Equal("m", dropped.RootElement.GetProperty("request").GetProperty("model").GetString());
        using var again = Open();
        Assert.Equal((1, 1), (again.Kept, again.Dropped));
        Assert.True(again.IsDone(1) && again.IsDone(2) && !again.IsDone(3));
        Assert.True(again.Claim(3));
    }

    [Fact]
    public async Task A_torn_line_is_cut_off_at_every_length_and_a_whole_one_is_kept()
    {
        await AppendAsync(1, 2);
        var bytes = File.ReadAllBytes(Out);
        var first = Array.IndexOf(bytes, (byte)'\n') + 1;
        for (var length = first; length < bytes.Length; length++)
        {
            File.WriteAllBytes(Out, bytes[..length]);
            using var journal = Open();
            var whole = length == bytes.Length - 1;             // only the line break is missing
            Assert.Equal(whole ? 2 : 1, journal.Kept);
            Assert.Equal(whole ? 0 : length - first, journal.TornBytes);
            Assert.Equal(whole, journal.IsDone(2));
            journal.Dispose();
            Assert.Equal(whole ? bytes : bytes[..first], File.ReadAllBytes(Out));
        }

        File.WriteAllBytes(Out, [.. bytes, .. new byte[5000]]);   // what some file systems leave after a power failure
        using (var zeros = Open())
        {
            Assert.Equal((2, 5000), (zeros.Kept, zeros.TornBytes));
        }

        await AppendAsync(3);
        Assert.Equal(3, File.ReadAllLines(Out).Length);
    }

    [Fact]
    public async Task Another_request_is_refused_by_what_changed_unless_allowed()
    {
        await AppendAsync(1);
        var other = new RequestFingerprint("verb", "m", TeacherApi.Chat, [], new DecodingParameters { Temperature = 0.6 });
        var e = Assert.Throws<InvalidInputException>(() => new ItemJournal(Out, other, allowChanged: false));
        Assert.Contains("temperature was 0 and is 0.6", e.Message);
        Assert.Contains("--allow-changed", e.Message);
        using (var journal = new ItemJournal(Out, other, allowChanged: true))
        {
            Assert.True(journal.IsDone(1));
            await journal.AppendAsync(2, Verdict.Keep, Record("b", "q", "r"));
        }

        Assert.Contains("line 2", Assert.Throws<InvalidInputException>(Open).Message);
        var prompts = new RequestFingerprint("verb", "m", TeacherApi.Chat, [PromptFile.Load("trajectory", null, "problem")],
            new DecodingParameters());
        Assert.Contains("prompt trajectory was absent",
            Assert.Throws<InvalidInputException>(() => new ItemJournal(Out, prompts, false)).Message);
    }

    [Theory]
    [InlineData("[1]")]
    [InlineData("{\"question\":\"q\",\"response\":\"r\"}\n")]
    [InlineData("{\"key\":\"zz\"}\n")]
    [InlineData("{\"key\":\"0123456789abcdef0123456789abcdef\",\"request\":{}\n")]
    [InlineData("hello\n")]
    [InlineData("hello")]
    public void A_file_of_something_else_is_refused_and_left_alone(string text)
    {
        File.WriteAllText(Out, text);
        Assert.Contains("name another --out", Assert.Throws<InvalidInputException>(Open).Message);
        Assert.Equal(text, File.ReadAllText(Out));
    }

    [Fact]
    public void Two_writers_do_not_share_a_file()
    {
        using var first = Open();
        Assert.Contains("another z1", Assert.Throws<InvalidInputException>(Open).Message);
        Assert.Throws<InvalidInputException>(() => new ItemJournal(Path.Combine(Out, "below.jsonl"), Fingerprint, false));
    }

    [Fact]
    public async Task Items_that_wait_share_one_commit()
    {
        using (var journal = Open())
        {
            await Task.WhenAll(Enumerable.Range(1, 500)
                .Select(i => journal.AppendAsync((UInt128)i, Verdict.Keep, Record($"{i}", "q", new string('x', 1000)))));
            Assert.True(journal.Commits < 500, $"{journal.Commits} commits for 500 items at once");
        }

        Assert.Equal(500, File.ReadAllBytes(Out).Count(b => b == '\n'));
    }

    [Fact]
    public async Task A_full_disk_is_said_and_leaves_whole_lines()
    {
        if (!File.Exists("/dev/full"))
        {
            Assert.Skip("needs /dev/full");
        }

        File.CreateSymbolicLink(Out, "/dev/full");
        using var journal = Open();
        var e = await Assert.ThrowsAsync<InvalidInputException>(() => journal.AppendAsync(1, Verdict.Keep, Record("a", "q", "r")));
        Assert.Contains("every line before is kept", e.Message);
    }

    private static RequestFingerprint Fingerprint => new("verb", "m", TeacherApi.Chat, [], new DecodingParameters());

    private ItemJournal Open() => new(Out, Fingerprint, allowChanged: false);

    private async Task AppendAsync(params int[] keys)
    {
        using var journal = Open();
        foreach (var key in keys)
        {
            await journal.AppendAsync((UInt128)key, Verdict.Keep, Record($"{key}", $"question {key}", "answer, mehr als ASCII: ü"));
        }
    }

    private static Action<Utf8JsonWriter> Record(string id, string question, string response) => json =>
    {
        json.WriteString("id", id);
        json.WriteString("question", question);
        json.WriteString("response", response);
    };
}
