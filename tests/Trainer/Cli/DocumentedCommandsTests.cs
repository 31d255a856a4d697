using System.Text.RegularExpressions;
using Xunit;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>Commands that documents, recipes and help texts show name verbs and options that exist. Where one stands for several (brackets, bars, dots) it
/// is not looked at.</summary>
public sealed partial class DocumentedCommandsTests
{
    [Fact]
    public void Of_documents_and_recipes()
    {
        string[] folders = ["docs", "deploy", "recipes", "src/Kernels"], kinds = [".md", ".yaml", ".sbatch"];
        var files = folders.SelectMany(f => Directory.GetFiles(Path.Combine(Goldens.RepositoryRoot, f), "*", SearchOption.AllDirectories))
            .Where(f => kinds.Contains(Path.GetExtension(f))).Append(Path.Combine(Goldens.RepositoryRoot, "README.md"));
        var commands = files.SelectMany(f => Shown().Matches(File.ReadAllText(f)).Select(m => (Path.GetFileName(f), Full(m)))).ToList();
        Assert.True(commands.Count > 60, $"only {commands.Count} commands were found");
        Assert.All(commands, c => Understood(c.Item2, c.Item1));
    }

    [Fact]
    public void Of_help_texts()
    {
        var commands = new List<string>();
        Collect([]);
        Assert.True(commands.Count > 20, $"only {commands.Count} commands were found");
        Assert.All(commands, c => Understood(c, "a help text"));

        void Collect(string[] verb)
        {
            var help = Z1Here.Run([.. verb, "--help"]).Succeeded().Output;
            var description = help[..help.IndexOf("\nUsage:", StringComparison.Ordinal)];
            commands.AddRange(InHelp().Matches(description).Select(m => m.Groups[1].Value));
            var subverbs = help.Split("\nCommands:\n");
            foreach (Match line in Subverb().Matches(subverbs.Length > 1 ? subverbs[1] : ""))
            {
                Collect([.. verb, line.Groups[1].Value]);
            }
        }
    }

    /// <summary>The words of one line of a shell; a trailing comment is none of them.</summary>
    private static string[] Words(string command) =>
        [.. Word().Matches(Comment().Replace(command, "")).Select(m => m.Value.Trim('"', '\'')).Select(w => w is "N" or "K" ? "1" : w)];

    private static string Full(Match m) => m.Groups[1].Success ? m.Groups[1].Value : $"perf run --suite {m.Groups[2].Value}";

    // A verb may be named without what it needs; what it is given must be known.
    private static void Understood(string command, string where)
    {
        if (command.AsSpan().IndexOfAny("[(|<…") < 0)
        {
            var wrong = Z1Coder.Trainer.Cli.Cli.Misuse(Words(command)) ?? [];
            Assert.True(
                !wrong.Any(w => w.Contains("Unrecognized", StringComparison.Ordinal) || w.Contains("has no option", StringComparison.Ordinal)),
                $"{where}: 'z1 {command}': {string.Join("; ", wrong)}");
        }
    }

    [GeneratedRegex(@"(?:^[ #]{4,}(?:\S*/)?z1 |`(?:\S*/)?z1 )([a-z][^`\n]*)|`P ([a-z][^`\n]*)", RegexOptions.Multiline)]
    private static partial Regex Shown();

    [GeneratedRegex(@"^ .*?\bz1 ([a-z]+ [^'\n]*|demo|doctor)(?:$|')", RegexOptions.Multiline)]
    private static partial Regex InHelp();

    [GeneratedRegex(@"^  ([a-z-]+)(?: |,|$)", RegexOptions.Multiline)]
    private static partial Regex Subverb();

    [GeneratedRegex(@"\s+#.*|\s{3,}.*")]
    private static partial Regex Comment();

    [GeneratedRegex(@"""[^""]*""|'[^']*'|\S+")]
    private static partial Regex Word();
}
