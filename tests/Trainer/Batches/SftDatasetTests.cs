using System.Text.Json;
using Xunit;
using Z1Coder.Tests.Trainer.Tokens;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Batches;

public sealed class SftDatasetTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("z1data");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void Counts_add_up_and_the_order_is_that_of_the_files()
    {
        string[] lines =
        [
            Line("q0", "r0"), Line("q1", "r1"), Line("q0", "r0"), Line(" q0 ", "r0"), Line("q0", "other"), Line("q2", " \n"), Line("  ", "r"),
            "{broken", Line("q3", new string('x', 500)), Line(new string('y', 500), "r"), Line("q4", "stop<|im_end|>here"),
            """{"instruction":"q","output":"not in this file"}""",
        ];
        var options = Options(Write("a.jsonl", lines), Write("b.json", "[" + Line("q9", "r9") + "," + Line("q1", "r1") + "]"))
            with { BrokenLines = BrokenLinePolicy.Skip, MaxLength = 200 };
        var data = Load(options);
        Assert.Equal(["a.jsonl:1", "a.jsonl:2", "a.jsonl:5", "a.jsonl:9", "a.jsonl:11", "b.json[0]"], data.Train.Select(s => s.Id));
        Assert.Equal(
            [(DropReasons.Duplicate, 3L), (DropReasons.EmptyResponse, 1), (DropReasons.EmptyPrompt, 1), (DropReasons.BrokenLine, 2), (DropReasons.NoLossToken, 1)],
            data.Report.Drops.Select(d => (d.Reason, d.Count)));
        Assert.Equal((14L, 6L, 0L, 8L), (data.Report.Records, data.Report.TrainSamples, data.Report.EvalSamples, data.Report.Dropped));
        Assert.Equal((1L, 1L, 1L), (data.Report.Truncated, data.Report.LostEndToken, data.Report.EndTokenInside));
        Assert.Equal(data.Train.Sum(s => s.Length), data.Report.Tokens);
        Assert.Equal(data.Train.Sum(s => s.LossTokens), data.Report.LossTokens);
        Assert.Equal(200, data.Report.LongestSample);
        Assert.Equal(["a.jsonl:3", "a.jsonl:4", "b.json[1]"], data.Report.Drops[0].Examples);
        Assert.Contains("3 exact duplicate, for example a.jsonl:3", data.Report.ToString(), StringComparison.Ordinal);

        var dropped = Load(options with { OverLength = OverLengthPolicy.Drop, Deduplicate = false });
        Assert.Equal((2L, 0L, 0L), (dropped.Report.CountOf(DropReasons.TooLong), dropped.Report.Truncated, dropped.Report.CountOf(DropReasons.Duplicate)));
        Assert.Equal(8, dropped.Train.Count);
    }

    [Fact]
    public void More_records_than_are_tokenised_at_once_keep_their_order()
    {
        var data = Load(Options(Write("a.jsonl", [.. Enumerable.Range(0, 5000).Select(i => Line($"q{i}", $"r{i}"))])));
        Assert.Equal(Enumerable.Range(1, 5000).Select(i => $"a.jsonl:{i}"), data.Train.Select(s => s.Id));
        Assert.All(data.Train, (sample, i) => Assert.EndsWith($"\nr{i}<|im_end|>", ToyTokens.Decode(sample.Tokens), StringComparison.Ordinal));
    }

    [Fact]
    public void The_first_failure_in_file_order_is_the_one_reported()
    {
        var options = Options(Write("a.jsonl", [.. Enumerable.Range(0, 300).Select(i => Line($"q{i}", "r"))]));
        for (var repeat = 0; repeat < 5; repeat++)
        {
            var e = Assert.Throws<InvalidInputException>(() => SftDataset.Load(options, ToyTokens.Encode, ToyTokens.End, (messages, _) =>
                messages[0].Content.EndsWith('7') ? throw new InvalidInputException(messages[0].Content) : "x"));
            Assert.Equal("q7", e.Message);
        }
    }

    [Fact]
    public void Held_out_prompts_are_never_trained_on_and_keep_their_side()
    {
        // two answers to each question, and each question again with white space around it
        string[] lines = [.. Enumerable.Range(0, 2000).Select(i => Line(i % 4 == 0 ? $" q{i / 2} " : $"q{i / 2}", $"r{i}"))];
        var options = Options(Write("a.jsonl", lines)) with { EvalFraction = 0.1 };
        var data = Load(options);
        var (train, eval) = (Prompts(data.Train), Prompts(data.Eval));
        Assert.Equal(2000, data.Train.Count + data.Eval.Count);
        Assert.Empty(train.Intersect(eval));
        Assert.Equal(1000, train.Count + eval.Count);
        Assert.InRange(eval.Count, 60, 140);                        // 100 expected, standard deviation 9.5
        Assert.Equal(data.Eval.Count, data.Report.EvalSamples);

        var less = Load(options with { Files = [Write("b.jsonl", [.. lines.Reverse().Where((_, i) => i % 3 == 0)])] });
        Assert.Subset(eval, Prompts(less.Eval));
        Assert.Subset(train, Prompts(less.Train));
        var other = Prompts(Load(options with { SplitSeed = 43 }).Eval);
        Assert.InRange(other.Intersect(eval).Count(), 0, 40);       // 10 expected
    }

    [Fact]
    public void A_data_set_without_samples_is_an_error()
    {
        Assert.Contains("hold no record", Error(Options(Write("empty.jsonl", ""))), StringComparison.Ordinal);
        Assert.Contains("2 empty response", Error(Options(Write("e.jsonl", Line("a", ""), Line("b", " ")))), StringComparison.Ordinal);
        Assert.Contains("no file is named", Error(new DatasetOptions()), StringComparison.Ordinal);
        var one = Options(Write("one.jsonl", Line("a", "b")));
        Assert.Contains("max length", Error(one with { MaxLength = 1 }), StringComparison.Ordinal);
        Assert.Contains("eval fraction", Error(one with { EvalFraction = double.NaN }), StringComparison.Ordinal);
        Assert.Contains("eval fraction", Error(one with { EvalFraction = 1 }), StringComparison.Ordinal);
        Assert.Contains("holds out none", Error(one with { EvalFraction = 1e-9 }), StringComparison.Ordinal);
        Assert.Contains("chat template", Assert.Throws<InvalidInputException>(() => SftDataset.Load(one, ToyTokens.Encode, 2)).Message, StringComparison.Ordinal);
    }

    private static string Error(DatasetOptions options) => Assert.Throws<InvalidInputException>(() => Load(options)).Message;

    private static SftDataset Load(DatasetOptions options) => SftDataset.Load(options, ToyTokens.Encode, ToyTokens.End, ToyTokens.ChatMl);

    private static HashSet<string> Prompts(IReadOnlyList<Z1Coder.Trainer.Tokens.TokenizedSample> samples) =>
        [.. samples.Select(s => ToyTokens.Decode(s.Tokens.Take(s.PromptTokens)))];

    private static DatasetOptions Options(params string[] files) => new() { Files = files };

    private static string Line(string question, string response) =>
        JsonSerializer.Serialize(new Dictionary<string, string> { ["question"] = question, ["response"] = response });

    private string Write(string name, params string[] lines)
    {
        var path = Path.Combine(_folder.FullName, name);
        File.WriteAllLines(path, lines);
        return path;
    }
}
