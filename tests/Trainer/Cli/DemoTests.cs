using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>What the demo does before it trains; the training itself takes minutes and is no test.</summary>
public sealed class DemoTests
{
    private static readonly string s_recipe = Path.Combine(Goldens.RepositoryRoot, "recipes", "nano", "nano.yaml");

    [Fact]
    public void A_seed_draws_another_corpus_and_is_the_recipes_seed()
    {
        var folder = Directory.CreateTempSubdirectory("z1-demo-").FullName;
        try
        {
            var seven = Corpus(Path.Combine(folder, "a"), "--seed", "7");
            Assert.Equal(7, seven.GetProperty("options").GetProperty("seed").GetInt64());
            Assert.Equal(Hashes(seven), Hashes(Corpus(Path.Combine(folder, "b"), "--set", "seed=7")));
            Assert.Equal(Hashes(seven), Hashes(Corpus(Path.Combine(folder, "c"), "--set", "seed=8", "--seed", "7")));

            var own = Corpus(Path.Combine(folder, "d"));
            Assert.Equal(1, own.GetProperty("options").GetProperty("seed").GetInt64());
            Assert.All(Hashes(seven).Zip(Hashes(own)), pair => Assert.NotEqual(pair.First, pair.Second));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>A published z1 alone, away from the repository.</summary>
    [Fact]
    public void The_recipe_is_built_in()
    {
        string[] overrides = ["tokenizer.from=t"];
        var own = DemoRun.Recipe(null, overrides, own: "absent.yaml");
        Assert.Equal(TrainRecipe.Load(s_recipe, overrides).Resolved, own.Resolved);
    }

    [Fact]
    public void A_seed_is_a_whole_number_from_0()
    {
        var absent = Path.Combine(Path.GetTempPath(), $"z1-demo-{Guid.NewGuid():N}");
        Z1Here.Run("demo", "--recipe", s_recipe, "--out", absent, "--seed", "one").WasMisused("one");
        Z1Here.Run("demo", "--recipe", s_recipe, "--out", absent, "--seed", "-1").FailedWith("'seed' is '-1'", "a whole number from 0");
        Assert.False(Directory.Exists(absent), "a seed that is refused makes no directory");
    }

    [Fact]
    public void A_demo_that_is_refused_leaves_an_earlier_one_where_it_is()
    {
        var folder = Directory.CreateTempSubdirectory("z1-demo-").FullName;
        try
        {
            var run = Path.Combine(folder, "run");
            Directory.CreateDirectory(run);
            File.WriteAllText(Path.Combine(run, "summary.json"), "earlier");
            Z1Here.Run("demo", "--recipe", s_recipe, "--out", run, "--set", "train.lrr=1").FailedWith("lrr");
            Z1Here.Run("demo", "--recipe", s_recipe, "--out", run, "--set", "model.shapes.head_dim=0").FailedWith("head_dim");
            Z1Here.Run("demo", "--recipe", Path.Combine(folder, "absent.yaml"), "--out", run).FailedWith("absent.yaml");
            Z1Here.Run("demo", "--recipe", s_recipe, "--out", run, "--vocabulary", "255").WasMisused("--vocabulary 255: must be from 257");
            Assert.Equal([run], Directory.GetDirectories(folder));
            Assert.Equal("earlier", File.ReadAllText(Path.Combine(run, "summary.json")));

            Corpus(run);
            Assert.Equal("earlier", File.ReadAllText(Path.Combine(run + ".1", "summary.json")));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    // The first line comes when the corpus is written; the rest of the demo is not wanted.
    private static JsonElement Corpus(string directory, params string[] more)
    {
        using (var demo = Z1.Start(["demo", "--recipe", s_recipe, "--out", directory, .. more]))
        {
            Assert.True(demo.WaitForLines(1), "the demo ended before its corpus was written");
            demo.Kill();
        }

        using var manifest = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(directory, "data", "manifest.json")));
        return manifest.RootElement.Clone();
    }

    private static List<string?> Hashes(JsonElement manifest) =>
        [.. manifest.GetProperty("files").EnumerateArray().Select(f => f.GetProperty("sha256").GetString())];
}
