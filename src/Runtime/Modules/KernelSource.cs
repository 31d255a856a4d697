using System.Text.RegularExpressions;

namespace Z1Coder.Runtime;

/// <summary>The text of one device file and of what it includes.</summary>
/// <param name="stem">the file is "&lt;stem&gt;.cu"</param>
/// <param name="read">text of a file by its name ("RmsNorm.cu", "z1.cuh"), or null when there is none</param>
public sealed partial class KernelSource(string stem, Func<string, string?> read)
{
    private (string Text, IReadOnlyList<(string Name, string Text)> Includes)? _loaded;

    /// <summary>The file's name without ".cu".</summary>
    public string Stem { get; } = stem;

    /// <summary>The file and everything it includes in quotes, directly or not, in order of first mention.</summary>
    internal (string Text, IReadOnlyList<(string Name, string Text)> Includes) Load() => _loaded ??= LoadOnce();

    private (string Text, IReadOnlyList<(string Name, string Text)> Includes) LoadOnce()
    {
        var text = read($"{Stem}.cu") ?? throw new FileNotFoundException($"there is no kernel file {Stem}.cu");
        var includes = new List<(string Name, string Text)>();
        Collect(text, includes);
        return (text, includes);
    }

    private void Collect(string text, List<(string Name, string Text)> includes)
    {
        foreach (Match match in Include().Matches(text))
        {
            var name = match.Groups[1].Value;
            if (!includes.Exists(i => i.Name == name) && read(name) is { } included)
            {
                includes.Add((name, included));
                Collect(included, includes);
            }
        }
    }

    [GeneratedRegex("^[ \\t]*#[ \\t]*include[ \\t]*\"([^\"]+)\"", RegexOptions.Multiline)]
    private static partial Regex Include();
}
