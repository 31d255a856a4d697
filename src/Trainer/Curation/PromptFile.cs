using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation;

/// <summary>
/// The text of a request, from a file of recipes/prompts. Lines at its head that begin with # are comments. A line "--- system", "---
/// user" or "--- assistant" begins a turn; without one the whole text is one user turn. {{name}} is replaced by a value. The file's last
/// line break belongs to no turn.
/// </summary>
public sealed partial class PromptFile
{
    private const string Turn = "--- ";

    private readonly List<ChatMessage> _turns;

    private PromptFile(string name, string text)
    {
        (Name, Sha256) = (name, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text))));
        _turns = Parse(name, text);
    }

    /// <summary>The file's name without its extension.</summary>
    public string Name { get; }

    /// <summary>Of the whole file, comments included.</summary>
    public string Sha256 { get; }

    /// <summary>The built-in copy of recipes/prompts/NAME.txt, or the file of that name in <paramref name="directory"/>.</summary>
    /// <param name="name">such as trajectory</param>
    /// <param name="directory">null for the built-in copies</param>
    /// <param name="values">the names that may be used, each at least once</param>
    public static PromptFile Load(string name, string? directory, params IReadOnlyList<string> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        var path = directory is null ? $"built-in prompt {name}" : Path.Combine(directory, name + ".txt");
        PromptFile prompt;
        try
        {
            prompt = new PromptFile(name, directory is null ? BuiltIn(name) : File.ReadAllText(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"{path} cannot be read ({e.Message.TrimEnd('.')})", e);
        }

        var used = prompt._turns.SelectMany(t => Placeholder().Matches(t.Content)).Select(m => m.Groups[1].Value).ToHashSet();
        foreach (var value in values.Where(v => !used.Contains(v)))
        {
            throw new InvalidInputException($"{path} does not use {{{{{value}}}}}; the request would not say what it is about");
        }

        foreach (var value in used.Where(v => !values.Contains(v)))
        {
            throw new InvalidInputException(
                $"{path} uses {{{{{value}}}}}, which is not among {string.Join(", ", values.Select(v => $"{{{{{v}}}}}"))}");
        }

        return prompt;
    }

    /// <summary>The turns with every name replaced by its value.</summary>
    public IReadOnlyList<ChatMessage> Render(params IReadOnlyList<(string Name, string Value)> values) =>
    [
        .. _turns.Select(t => t with
        {
            Content = Placeholder().Replace(t.Content, m => values.First(v => v.Name == m.Groups[1].Value).Value),
        }),
    ];

    private static List<ChatMessage> Parse(string name, string text)
    {
        text = text.Replace("\r\n", "\n", StringComparison.Ordinal);
        while (text.StartsWith('#'))
        {
            var end = text.IndexOf('\n');
            text = end < 0 ? "" : text[(end + 1)..];
        }

        text = text.EndsWith('\n') ? text[..^1] : text;

        var turns = new List<ChatMessage>();
        if (!text.StartsWith(Turn, StringComparison.Ordinal))
        {
            turns.Add(new ChatMessage("user", text));
        }
        else
        {
            foreach (var part in ("\n" + text).Split("\n" + Turn).Skip(1))
            {
                var end = part.IndexOf('\n');
                var role = (end < 0 ? part : part[..end]).Trim();
                if (role is not ("system" or "user" or "assistant"))
                {
                    throw new InvalidInputException(
                        $"prompt {name}: a turn begins with '{Turn}{role}'; the roles are system, user and assistant");
                }

                turns.Add(new ChatMessage(role, end < 0 ? "" : part[(end + 1)..]));
            }
        }

        return turns.Any(t => !string.IsNullOrWhiteSpace(t.Content)) ? turns : throw new InvalidInputException($"prompt {name} is empty");
    }

    private static string BuiltIn(string name)
    {
        using var stream = typeof(PromptFile).Assembly.GetManifestResourceStream($"prompts/{name}.txt")
            ?? throw new InvalidInputException($"there is no built-in prompt '{name}'");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    [GeneratedRegex(@"\{\{(\w+)\}\}")]
    private static partial Regex Placeholder();
}
