using Xunit;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>The prompt files, and the form of replies.</summary>
public sealed class PromptFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("z1-prompts-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_built_in_prompts_are_the_files_of_the_repository()
    {
        var folder = Path.Combine(Goldens.RepositoryRoot, "recipes", "prompts");
        string[] one = ["problem"];
        (string Name, string[] Values)[] prompts =
        [
            (Trajectories.Prompt, one), (Instructions.Prompt, ["code"]), (SelfInvoking.ProblemPrompt, ["problem", "solution", "function"]),
            (SelfInvoking.QuestionPrompt, ["problem", "function", "new_problem", "new_function"]), .. Enum.GetValues<EvolveOperation>()
                .Select(o => (Evolve.PromptOf(o), one)),
        ];
        Assert.Equal(Directory.GetFiles(folder).Select(f => Path.GetFileNameWithoutExtension(f)).Order(),
            prompts.Select(p => p.Name).Order());
        foreach (var (name, values) in prompts)
        {
            var builtIn = PromptFile.Load(name, null, values);
            Assert.Equal(PromptFile.Load(name, folder, values).Sha256, builtIn.Sha256);
            var turn = Assert.Single(builtIn.Render([.. values.Select(v => (v, $"<the {v}>"))]));
            Assert.Equal("user", turn.Role);
            Assert.DoesNotContain("{{", turn.Content);
            Assert.DoesNotContain('#', turn.Content[..1]);
            Assert.All(values, v => Assert.Contains($"<the {v}>", turn.Content));
        }
    }

    [Fact]
    public void Turns_comments_and_values()
    {
        Write("# note\n# note\n--- system\nBe {{a}}.\n\n--- user\n{{b}}\n{{a}}\n\n");
        var prompt = PromptFile.Load("p", _folder, "a", "b");
        Assert.Equal([new ChatMessage("system", "Be {{b}}.\n"), new ChatMessage("user", "x\n{{b}}\n")],
            prompt.Render(("a", "{{b}}"), ("b", "x")));
        var hash = prompt.Sha256;
        Write("# other note\n# note\n--- system\nBe {{a}}.\n\n--- user\n{{b}}\n{{a}}\n\n");
        Assert.NotEqual(hash, PromptFile.Load("p", _folder, "a", "b").Sha256);
        Write("just {{a}}");
        Assert.Equal([new ChatMessage("user", "just 1")], PromptFile.Load("p", _folder, "a").Render(("a", "1")));
    }

    [Theory]
    [InlineData("{{a}} {{c}}", "{{c}}")]
    [InlineData("nothing", "does not use {{a}}")]
    [InlineData("--- robot\n{{a}}", "robot")]
    [InlineData("", "is empty")]
    [InlineData("# only a comment", "is empty")]
    public void A_prompt_that_cannot_work_is_said(string text, string said)
    {
        Write(text);
        Assert.Contains(said, Assert.Throws<InvalidInputException>(() => PromptFile.Load("p", _folder, "a")).Message);
    }

    [Fact]
    public void Sections_of_a_reply()
    {
        var reply = new ReplySections(
            "<think>[Problem]\nno</think>intro\n[Problem]\ndraft\n**[Tests]**\n```python\n[x]\nassert 1\n```\n### [Problem]\n\nfinal\nlist[0] and [1, 2]\n[3]\n");
        Assert.Equal("final\nlist[0] and [1, 2]\n[3]", reply["problem"]);
        Assert.Equal("```python\n[x]\nassert 1\n```", reply["Tests"]);
        Assert.Equal("", reply["Solution"]);
        Assert.Equal("", new ReplySections("")["Problem"]);
    }

    private void Write(string text) => File.WriteAllText(Path.Combine(_folder, "p.txt"), text);
}
