using System.Text.Json;
using Xunit;
using Z1Coder.Perf;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>Problems that evolve, and those that only seem to.</summary>
public sealed class EvolveTests : IDisposable
{
    private const string Base = "Write a Python function that returns the largest number of a given list of integers.";

    private readonly string _folder = Directory.CreateTempSubdirectory("z1-evolve-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(Base + " Ignore negative numbers and return None for an empty list.", null)]
    [InlineData("", "no [Problem] in the reply")]
    [InlineData("I'm sorry, I cannot rewrite this problem for you today.", "refused")]
    [InlineData("Rewritten problem: write a function that returns the two largest numbers.", "speaks of the prompt")]
    [InlineData("Sort the list twice.", "too short")]
    [InlineData("write a python function that returns the LARGEST number of a given list of integers", "a copy of the problem")]
    public void What_is_no_evolved_problem_is_named(string evolved, string? reason)
    {
        Assert.Equal(reason, Evolve.Judge(Base, evolved, isCut: false, EvolveOperation.Deepen, 60).Reason);
        Assert.Equal("reply cut", Evolve.Judge(Base, evolved, isCut: true, EvolveOperation.Deepen, 60).Reason);
    }

    [Fact]
    public void In_depth_few_words_are_added_and_in_breadth_it_does_not_matter()
    {
        var grown = Base + string.Concat(Enumerable.Range(0, 61).Select(i => $" more{i}"));
        Assert.Equal("too many words added", Evolve.Judge(Base, grown, false, EvolveOperation.Constraints, 60).Reason);
        Assert.True(Evolve.Judge(Base, grown, false, EvolveOperation.Constraints, 61).IsKept);
        Assert.True(Evolve.Judge(Base, grown, false, EvolveOperation.Breadth, 60).IsKept);
    }

    [Fact]
    public void Every_operation_is_drawn_about_equally_and_always_the_same_for_a_problem()
    {
        var all = Enum.GetValues<EvolveOperation>();
        var problems = Enumerable.Range(0, 2000).Select(i => Problem.Of(new SftRecord("x", $"problem {i}", "", ""), withResponse: false))
            .ToList();
        var drawn = problems.Select(p => Evolve.Choose(p, all, 1)).ToList();
        Assert.Equal(drawn, problems.Select(p => Evolve.Choose(p, all, 1)));
        Assert.NotEqual(drawn, problems.Select(p => Evolve.Choose(p, all, 2)));

        // 2,000 draws of a fifth: mean 400, standard deviation √(2000 · 0.2 · 0.8) = 17.9; five of them either way
        Assert.All(all, o => Assert.InRange(drawn.Count(d => d == o), 310, 490));
    }

    [Fact]
    public void A_round_makes_problems_for_the_next_round_and_for_trajectories()
    {
        File.WriteAllLines(this["p.jsonl"],
            Enumerable.Range(0, 30)
            .Select(i => JsonSerializer.Serialize(new { instruction = $"Task {i}: {Base}", input = "", output = "old" })));
        using var server = new ScriptedTeacher((prompt, _) => LoopbackReply.Answer(
            prompt.Contains("Task 7:", StringComparison.Ordinal) ? "I would rather not."
            : prompt.Contains("Invent", StringComparison.Ordinal)
                ? "Sure.\n[Problem]\nCount the islands in a rectangular grid of land and water cells."
            : prompt.StartsWith("Rewrite", StringComparison.Ordinal) ? "[Problem]\n" + Task(prompt) + " Do it in one pass."
            : "a trajectory"));
        string[] teacher = ["--teacher", server.BaseUrl, "--model", "m", "--json"];
        var json = Z1Here.Run(["curate", "evolve", this["p.jsonl"], "--out", this["r1.jsonl"], .. teacher]).Json();
        Assert.Equal((29, 1), (json.GetProperty("kept").GetInt32(), json.GetProperty("dropped").GetInt32()));
        Assert.Contains("/v1/chat/completions", server.Last!.Path);
        var records = File.ReadLines(this["r1.jsonl"]).Select(l => JsonDocument.Parse(l).RootElement).ToList();
        Assert.All(records, r => Assert.Contains(Base, r.GetProperty("parent").GetString()));
        Assert.True(records.Select(r => r.GetProperty("operation").GetString()).Distinct().Count() >= 4);
        Assert.Contains(records, r => r.GetProperty("question").GetString()!.EndsWith("Do it in one pass.", StringComparison.Ordinal));
        using var dropped = JsonDocument.Parse(Assert.Single(File.ReadAllLines(this["r1.dropped.jsonl"])));
        Assert.Equal("no [Problem] in the reply", dropped.RootElement.GetProperty("verdict").GetString());

        // the dropped one is done too; another draw is another request
        Assert.Equal(30, Z1Here.Run(["curate", "evolve", this["p.jsonl"], "--out", this["r1.jsonl"], .. teacher]).Json()
            .GetProperty("done_before").GetInt32());
        Z1Here.Run(["curate", "evolve", this["p.jsonl"], "--out", this["r1.jsonl"], "--draw", "2", .. teacher[..^1]])
            .FailedWith("draw was \"1\" and is \"2\"");
        Assert.Equal(30, server.Requests);

        var evolved = records.Select(r => r.GetProperty("question").GetString()).Distinct().Count();
        Assert.Equal(evolved,
            Z1Here.Run(["curate", "trajectories", this["r1.jsonl"], "--out", this["t.jsonl"], .. teacher]).Json().GetProperty("kept")
            .GetInt32());
        Z1Here.Run(["curate", "evolve", this["p.jsonl"], "--out", this["x.jsonl"], "--operations", "magic", .. teacher]).WasMisused("magic");
    }

    private string this[string name] => Path.Combine(_folder, name);

    private static string Task(string prompt)
    {
        var at = prompt.IndexOf("Task ", StringComparison.Ordinal);
        return prompt[at..prompt.IndexOf('\n', at)];
    }
}
