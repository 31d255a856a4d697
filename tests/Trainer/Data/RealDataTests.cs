using Xunit;
using Z1Coder.Tests.Trainer.Tokens;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Data;

/// <summary>The real files of the data folder; the counts were made with another JSON parser in another language.</summary>
public sealed class RealDataTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("code-alpaca/code_alpaca_2k.json", null, 2017, 0, 2)]
    [InlineData("code-alpaca/new_codealpaca.json", null, 4535, 0, 0)]
    [InlineData("evol-instruct/converted_alpaca_2k.json", null, 2017, 0, 2)]
    [InlineData("evol-instruct/evol-codealpaca-2k-1.json", null, 1966, 0, 0)]
    [InlineData("evol-instruct/evol-codealpaca-2k-2.json", null, 1953, 0, 0)]
    [InlineData("model-answers/lcb-o1-mini.dev.jsonl", null, 421, 0, 1)]
    [InlineData("oss-instruct/self-ossinstruct-fewshot.parsed.jsonl", null, 16, 0, 0)]
    [InlineData("reasoning-traces/cruxeval-cot-qwen2.5-coder-7b.jsonl", null, 800, 0, 0)]
    [InlineData("reasoning-traces/dhruv-coding-6.json", "prompt=title,response=answer_with,id=id", 6, 0, 0)]
    [InlineData("reasoning-traces/llamafactory-reason-tool-use-50.jsonl", null, 50, 0, 0)]
    [InlineData("reasoning-traces/s1k-5.jsonl", "prompt=question,response=gemini_thinking_trajectory", 5, 0, 0)]
    public void Every_file_loads(string file, string? fields, int records, int duplicates, int empty)
    {
        var options = new DatasetOptions
        {
            Files = [Path.Combine(Folder(), file)],
            Fields = fields is null ? null : FieldMap.Parse(fields),
            EvalFraction = records > 100 ? 0.05 : 0,
        };
        var data = SftDataset.Load(options, ToyTokens.Encode, ToyTokens.End, ToyTokens.ChatMl);
        output.WriteLine(data.Report.ToString());
        Assert.Equal(records, data.Report.Records);
        Assert.Equal(duplicates, data.Report.CountOf(DropReasons.Duplicate));
        Assert.Equal(empty, data.Report.CountOf(DropReasons.EmptyResponse));
        Assert.Equal(duplicates + empty + data.Report.CountOf(DropReasons.NoLossToken), data.Report.Dropped);
        Assert.Equal(records - data.Report.Dropped, data.Train.Count + data.Eval.Count);
    }

    [Fact]
    public void Every_answer_of_a_conversation_can_be_trained_on()
    {
        var options = new DatasetOptions
        {
            Files = [Path.Combine(Folder(), "reasoning-traces/llamafactory-reason-tool-use-50.jsonl")],
            Turns = TrainTurns.All,
            MaxLength = 1 << 20,
        };
        var data = SftDataset.Load(options, ToyTokens.Encode, ToyTokens.End, ToyTokens.ChatMl);
        Assert.Equal(112, data.Train.Sum(sample => sample.Loss.Length));         // assistant turns of the file
        Assert.All(data.Train, sample => Assert.All(sample.Loss, span => Assert.Equal(ToyTokens.End, sample.Tokens[span.End - 1])));
    }

    [Fact]
    public void All_files_together_hold_the_copies_that_they_share()
    {
        string[] files = ["code-alpaca/code_alpaca_2k.json", "evol-instruct/converted_alpaca_2k.json"];
        var options = new DatasetOptions { Files = [.. files.Select(file => Path.Combine(Folder(), file))], MaxLength = 1 << 20 };
        var data = SftDataset.Load(options, ToyTokens.Encode, ToyTokens.End, ToyTokens.ChatMl);
        output.WriteLine(data.Report.ToString());
        Assert.Equal(4034, data.Report.Records);
        Assert.InRange(data.Report.CountOf(DropReasons.Duplicate), 1, 2017);
    }

    private static string Folder()
    {
        var folder = Environment.GetEnvironmentVariable("Z1_DATA");
        for (var at = new DirectoryInfo(AppContext.BaseDirectory); folder is null && at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "Z1Coder.Native.sln")))
            {
                folder = Path.Combine(at.FullName, "..", "shared", "data");
            }
        }

        folder = Path.Combine(folder ?? "", "sft-data");
        Assert.SkipUnless(Directory.Exists(folder), $"no folder {folder}; set Z1_DATA to the folder that holds sft-data");
        return folder;
    }
}
