using Xunit;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Data;

public sealed class RecordTests
{
    [Fact]
    public void A_plain_record_is_a_conversation_of_two_turns()
    {
        Assert.Equal([new("user", "q"), new("assistant", " r ")], new SftRecord("x", " q\n", "", " r ").ToMessages());
        Assert.Equal([new("user", "q\n\ni"), new("assistant", "r")], new SftRecord("x", " q\n", "i ", "r").ToMessages());
        ChatMessage[] turns = [new("user", " q ")];
        Assert.Same(turns, SftRecord.Chat("x", turns).ToMessages());
    }

    [Fact]
    public void Content_is_hashed_and_nothing_else()
    {
        var record = new SftRecord("x", "q", "", "r");
        var hash = ContentHash.Of(record);
        Assert.Equal(hash, ContentHash.Of(record with { Id = "y" }));
        Assert.Equal(hash, ContentHash.Of(SftRecord.Chat("z", [new("user", "q"), new("assistant", "r")])));
        SftRecord[] others =
        [
            record with { Prompt = "qr", Response = "" }, record with { Prompt = "", Response = "qr" }, record with { Response = "R" },
            record with { Input = "r" }, SftRecord.Chat("x", [new("system", "q"), new("assistant", "r")]), SftRecord.Chat("x", []),
            SftRecord.Chat("x", [new("user", "q"), new("assistant", "r"), new("user", "")]), record with { Prompt = "é" }, record with { Prompt = "e\u0301" },
        ];
        Assert.Equal(others.Length + 1, others.Append(record).Select(ContentHash.Of).Distinct().Count());

        var prompt = ContentHash.OfPrompt(record, 1);
        Assert.Equal(prompt, ContentHash.OfPrompt(record with { Response = "another" }, 1));
        Assert.NotEqual(prompt, ContentHash.OfPrompt(record with { Prompt = "another" }, 1));
        Assert.NotEqual(prompt, ContentHash.OfPrompt(record, 2));
    }

    [Fact]
    public void Filters_name_their_reason()
    {
        var filter = new RecordFilter(deduplicate: true);
        var record = new SftRecord("x", "q", "", "r");
        Assert.Equal(Verdict.Keep, filter.Judge(record));
        Assert.Equal(DropReasons.Duplicate, filter.Judge(record with { Id = "y" }).Reason);
        Assert.Equal(DropReasons.EmptyPrompt, filter.Judge(record with { Prompt = "\n" }).Reason);
        Assert.Equal(DropReasons.EmptyResponse, filter.Judge(record with { Response = "\t" }).Reason);
        Assert.Equal(Verdict.Keep, filter.Judge(record with { Prompt = "", Input = "i" }));
        Assert.Equal(DropReasons.NoAssistantTurn, filter.Judge(SftRecord.Chat("x", [new("user", "q")])).Reason);
        Assert.Equal(DropReasons.NoAssistantTurn, filter.Judge(SftRecord.Chat("x", [])).Reason);
        Assert.Equal(DropReasons.EmptyPrompt, filter.Judge(SftRecord.Chat("x", [new("system", "s"), new("assistant", "r")])).Reason);
        Assert.Equal(DropReasons.EmptyResponse, filter.Judge(SftRecord.Chat("x", [new("user", "q"), new("assistant", " ")])).Reason);
        Assert.Equal(DropReasons.Duplicate, filter.Judge(SftRecord.Chat("x", [new("user", "q"), new("assistant", "r")])).Reason);

        var lenient = new RecordFilter(deduplicate: false);
        Assert.True(lenient.Judge(record).IsKept && lenient.Judge(record).IsKept);
    }

    [Fact]
    public void Field_maps_are_read_and_checked()
    {
        Assert.Equal(new FieldMap("q", "a", "i", null, "n"), FieldMap.Parse("prompt=q, response = a,input=i,id=n"));
        Assert.Equal(new FieldMap(Messages: "turns"), FieldMap.Parse("messages=turns"));
        foreach (var (text, named) in (ReadOnlySpan<(string, string)>)
            [("prompt=q", "both prompt and response"), ("messages=m,prompt=q,response=r", "either messages"), ("promt=q", "'promt' is not one of"),
             ("prompt", "names no key"), ("", "both prompt and response")])
        {
            Assert.Contains(named, Assert.Throws<InvalidInputException>(() => FieldMap.Parse(text)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_report_keeps_the_first_few_examples_of_each_reason()
    {
        var report = new DataReport();
        for (var i = 0; i < 100; i++)
        {
            report.Drop(i % 2 == 0 ? "even" : "odd", $"{i}");
        }

        Assert.Equal(100, report.Dropped);
        Assert.Equal(50, report.CountOf("odd"));
        Assert.Equal(0, report.CountOf("other"));
        Assert.Equal([("even", 50L, "0 2 4 6 8"), ("odd", 50L, "1 3 5 7 9")], report.Drops.Select(d => (d.Reason, d.Count, string.Join(' ', d.Examples))));
    }
}
