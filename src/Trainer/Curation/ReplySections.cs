using System.Text;

namespace Z1Coder.Trainer.Curation;

/// <summary>
/// A teacher's reply in sections: lines that hold a name in brackets, such as [Problem], also bold or as a heading. Everything up to the
/// last &lt;/think&gt; is dropped; of a section that comes twice the last counts (a teacher that thinks aloud drafts first); lines inside
/// a fenced block begin no section.
/// </summary>
public sealed class ReplySections
{
    private readonly Dictionary<string, string> _sections = new(StringComparer.OrdinalIgnoreCase);

    /// <summary>Reads a reply.</summary>
    public ReplySections(string reply)
    {
        ArgumentNullException.ThrowIfNull(reply);
        const string ThinkEnd = "</think>";
        var from = reply.LastIndexOf(ThinkEnd, StringComparison.Ordinal);
        string? name = null;
        var fenced = false;
        var body = new StringBuilder();
        foreach (var line in (from < 0 ? reply : reply[(from + ThinkEnd.Length)..]).Split('\n'))
        {
            fenced ^= line.AsSpan().TrimStart().StartsWith("```", StringComparison.Ordinal);
            if (!fenced && NameOf(line) is { } next)
            {
                Close();
                name = next;
            }
            else
            {
                body.Append(line).Append('\n');
            }
        }

        Close();

        void Close()
        {
            if (name is not null)
            {
                _sections[name] = body.ToString().Trim();
            }

            body.Clear();
        }
    }

    /// <summary>The text of a section; empty when there is none.</summary>
    public string this[string name] => _sections.GetValueOrDefault(name, "");

    private static string? NameOf(string line)
    {
        var text = line.AsSpan().Trim().Trim("#*:").Trim();
        if (text is not ['[', _, .., ']'])
        {
            return null;
        }

        foreach (var c in text[1..^1])
        {
            if (!char.IsLetter(c) && c != ' ')
            {
                return null;                    // a list or an index, not a name
            }
        }

        return text[1..^1].ToString();
    }
}
