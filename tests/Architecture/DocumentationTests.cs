using System.Globalization;
using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Architecture;

/// <summary>Pages that list what the code has list all of it, and nothing else.</summary>
public sealed partial class DocumentationTests
{
    private const string Least = "model: {shapes: {hidden_size: 8}}\nstages:\n  - {name: a}\n", Unknown = "00000000000000000000";

    private static string Root => Goldens.RepositoryRoot;

    [Fact]
    public void Every_kernel_family_has_a_row_in_the_table_of_roundings()
    {
        var rows = TableKeys().Matches(Section(Read("src/Kernels/README.md"), "Rounding and sums")).Select(m => m.Groups[1].Value).ToHashSet();
        string[] families = [.. KernelCatalog.All.Select(k => k.Stem.Replace("Hopper", "", StringComparison.Ordinal)).Distinct()];
        Assert.Empty(families.Except(rows));
        Assert.Empty(rows.Except(families));
    }

    [Fact]
    public void The_page_of_the_recipe_has_every_key_and_no_other()
    {
        var page = RecipePage();
        Assert.Equal(KnownKeys().Order(), page.Keys.Order());
    }

    [Fact]
    public void The_page_of_the_recipe_has_the_defaults_of_the_code()
    {
        var resolved = Resolved();
        var compared = 0;
        foreach (var (key, cell) in RecipePage())
        {
            if (cell is ['`', .. var value, '`'])
            {
                Assert.True(resolved.ContainsKey(key), $"{key} has no default, the page says {cell}");
                Assert.True(Same(value, resolved[key]), $"{key} is {resolved[key]} by default, the page says {value}");
                compared++;
            }
        }

        Assert.InRange(compared, 50, int.MaxValue);

        static bool Same(string page, string code) => page == code
            || (double.TryParse(page, CultureInfo.InvariantCulture, out var a) && double.TryParse(code, CultureInfo.InvariantCulture, out var b) && a == b);
    }

    [Fact]
    public void The_page_of_the_environment_has_every_variable_that_is_read()
    {
        var page = Read("docs/environment.md");
        var named = Variables().Matches(page).Select(m => m.Groups[1].Value).ToHashSet();
        var sources = Files("src", "*.cs").Concat(Files("perf", "*.cs")).Concat(Files("native", "*.cpp"))
            .SelectMany(f => Literals().Matches(File.ReadAllText(f)).Select(m => m.Groups[1].Value));
        var tests = Files("tests", "*.cs").SelectMany(f => Asked().Matches(File.ReadAllText(f)).Select(m => m.Groups[1].Value));
        string[] scripts = ["build.sh", "perf/z1-gpu", "deploy/slurm/train.sbatch"];
        var shell = Files("deploy", "*.sh").Concat(Files("native", "*.sh")).Concat(scripts.Select(s => Path.Combine(Root, s)))
            .SelectMany(f => Defaulted().Matches(File.ReadAllText(f)).Select(m => m.Groups[1].Value));
        string[] read = [.. sources.Concat(tests).Concat(shell).Distinct().Order(StringComparer.Ordinal)];
        Assert.InRange(read.Length, 25, int.MaxValue);
        Assert.DoesNotContain(read, v => !named.Contains(v));
        Assert.Empty(named.Where(v => v.StartsWith("Z1_", StringComparison.Ordinal)).Except(read));
    }

    [Theory]
    [InlineData("src/Trainer/Train/MetricsLog.cs")]
    [InlineData("src/Trainer/Train/DataReportJson.cs")]
    [InlineData("src/Trainer/Train/RunEnvironment.cs")]
    public void The_page_of_the_run_has_every_field(string source)
    {
        var page = Read("docs/run.md");
        string[] fields = [.. Fields().Matches(Read(source)).Select(m => m.Groups[1].Value).Distinct()];
        Assert.InRange(fields.Length, 10, 30);
        Assert.DoesNotContain(fields, f => !page.Contains($"`{f}`", StringComparison.Ordinal));
    }

    /// <summary>Every key, asked of the reader itself: it names what it knows when it meets a key that it does not.</summary>
    private static List<string> KnownKeys()
    {
        string[] inherited = ["data", "train", "guard", "eval", "checkpoint", "parallel"];
        var keys = Known("").Except(inherited).Select(k => (Path: k, Name: k))
            .Concat(Known("stages.0.").Select(k => (Path: $"stages.0.{k}", Name: inherited.Contains(k) ? k : $"stages.{k}"))).ToList();
        for (var i = 0; i < keys.Count; i++)
        {
            var (path, name) = keys[i];
            if (path != "stages" && Known($"{path}.") is { Length: > 0 } below)
            {
                keys.AddRange(below.Select(k => ($"{path}.{k}", $"{name}.{k}")));
                keys[i] = ("", "");
            }
        }

        return [.. keys.Select(k => k.Name).Where(n => n is not ("" or "stages"))];
    }

    /// <summary>The keys of a section; none where there is no section of that name.</summary>
    private static string[] Known(string section)
    {
        var message = Assert.Throws<InvalidInputException>(() => TrainRecipe.From(
            RecipeTree.Parse("recipe", Least, [$"{section}{Unknown}=1"]), "recipe.yaml")).Message;
        return KnownHere().Match(message) is { Success: true } known ? known.Groups[1].Value.Split(", ") : [];
    }

    /// <summary>Key and cell of the default, by the page's headings: "data.max_length" and "`1280`".</summary>
    private static Dictionary<string, string> RecipePage()
    {
        var keys = new Dictionary<string, string>();
        var section = "";
        foreach (var line in File.ReadLines(Path.Combine(Root, "docs", "recipe.md")))
        {
            if (line.StartsWith("## ", StringComparison.Ordinal))
            {
                section = line[3..].Trim('`', ' ') is var name and not "Top" ? $"{name}." : "";
            }
            else if (line.StartsWith("| `", StringComparison.Ordinal))
            {
                var cells = line.Split('|', StringSplitOptions.TrimEntries);
                keys.Add(section + cells[1].Trim('`'), cells[3]);
            }
        }

        return keys;
    }

    /// <summary>What the least recipe resolves to, by the same names.</summary>
    private static Dictionary<string, string> Resolved()
    {
        var (keys, path) = (new Dictionary<string, string>(), new List<(int Indent, string Name)>());
        var resolved = TrainRecipe.From(RecipeTree.Parse("recipe", Least, []), "recipe.yaml").Resolved;
        foreach (var line in resolved.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Replace("- ", "  ", StringComparison.Ordinal)))
        {
            var (indent, colon) = (line.Length - line.TrimStart().Length, line.IndexOf(':', StringComparison.Ordinal));
            path.RemoveAll(p => p.Indent >= indent);
            path.Add((indent, line[indent..colon]));
            keys[string.Join('.', path.Select(p => p.Name)).Replace("stages.", "", StringComparison.Ordinal)] = line[(colon + 1)..].Trim();
        }

        return keys;
    }

    private static string Section(string page, string heading)
    {
        var begin = page.IndexOf($"## {heading}", StringComparison.Ordinal);
        Assert.True(begin >= 0, heading);
        var end = page.IndexOf("\n## ", begin, StringComparison.Ordinal);
        return end < 0 ? page[begin..] : page[begin..end];
    }

    private static string Read(string file) => File.ReadAllText(Path.Combine(Root, file));

    private static IEnumerable<string> Files(string below, string pattern) =>
        Directory.GetFiles(Path.Combine(Root, below), pattern, SearchOption.AllDirectories)
            .Where(f => !f.Contains("/obj/", StringComparison.Ordinal) && !f.Contains("/bin/", StringComparison.Ordinal));

    [GeneratedRegex(@"^\| ([A-Z]\w+)", RegexOptions.Multiline)]
    private static partial Regex TableKeys();

    [GeneratedRegex("; known here: (.+)$")]
    private static partial Regex KnownHere();

    [GeneratedRegex(@"`([A-Z][A-Z0-9_]+)`")]
    private static partial Regex Variables();

    [GeneratedRegex("\"(Z1_[A-Z0-9_]+)\"")]
    private static partial Regex Literals();

    [GeneratedRegex("GetEnvironmentVariable\\(\"(Z1_[A-Z0-9_]+)\"\\)")]
    private static partial Regex Asked();

    [GeneratedRegex(@"\$\{([A-Z][A-Z0-9_]*):-")]
    private static partial Regex Defaulted();

    [GeneratedRegex("(?:json\\.Write\\w+|Number|Begin|DropCountJson\\.Write)\\((?:json, )?\"(\\w+)\"")]
    private static partial Regex Fields();
}
