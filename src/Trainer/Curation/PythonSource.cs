using System.Text;

namespace Z1Coder.Trainer.Curation;

/// <summary>
/// Python source as far as curation looks into it: its logical lines (a statement's line with everything that brackets, strings and
/// backslashes continue), and the functions at the top level. One pass, linear; source that is no Python gives some lines or none, never
/// an error.
/// </summary>
public static class PythonSource
{
    /// <summary>The functions at the top level that have a docstring, in order; each with the imports at the top of the file whose names
    /// it uses.</summary>
    /// <param name="source">a file</param>
    public static IEnumerable<PythonFunction> Functions(string source)
    {
        ArgumentNullException.ThrowIfNull(source);
        var text = source.Replace("\r\n", "\n", StringComparison.Ordinal);
        var lines = Lines(text);
        var imports = lines.Where(l => l.Indent == 0 && IsImport(text.AsSpan(l.Start, l.End - l.Start))).Select(l => text[l.Start..l.End])
            .ToList();
        for (var i = 0; i < lines.Count; i++)
        {
            var first = i;
            while (lines[i].Indent == 0 && text[lines[i].Start] == '@' && i + 1 < lines.Count)
            {
                i++;
            }

            if (lines[i].Indent > 0 || Name(text.AsSpan(lines[i].Start, lines[i].End - lines[i].Start)) is not { } name)
            {
                continue;
            }

            var body = i + 1;
            while (i + 1 < lines.Count && lines[i + 1].Indent > 0)
            {
                i++;
            }

            if (body <= i && Docstring(text.AsSpan(lines[body].Start, lines[body].End - lines[body].Start)) is { } docstring)
            {
                var code = text[lines[first].Start..lines[i].End];
                var used = imports.Where(line => Imported(line).Any(word => Uses(code, word))).ToList();
                yield return new PythonFunction(
                    name, docstring, used.Count == 0 ? code : string.Join('\n', used) + "\n\n" + code, lines[first].Number,
                    code.AsSpan().Count('\n') + 1,
                    lines.Skip(body).Take(i - body + 1)
                        .Any(l => StartsWithWord(text.AsSpan(l.Start, l.End - l.Start), "return")
                        || StartsWithWord(text.AsSpan(l.Start, l.End - l.Start), "yield")));
            }
        }
    }

    /// <summary>The name of the last function at the top level; null when there is none.</summary>
    public static string? LastFunction(string source)
    {
        ArgumentNullException.ThrowIfNull(source);
        return Lines(source).Where(l => l.Indent == 0).Select(l => Name(source.AsSpan(l.Start, l.End - l.Start)))
            .LastOrDefault(name => name is not null);
    }

    /// <summary>True for an ASCII identifier.</summary>
    public static bool IsName(ReadOnlySpan<char> text)
    {
        foreach (var c in text)
        {
            if (!char.IsAsciiLetterOrDigit(c) && c != '_')
            {
                return false;
            }
        }

        return text.Length > 0 && !char.IsAsciiDigit(text[0]);
    }

    private static List<LogicalLine> Lines(string text)
    {
        var lines = new List<LogicalLine>();
        var (number, i) = (1, 0);
        while (i < text.Length)
        {
            var begin = i;
            while (i < text.Length && text[i] is ' ' or '\t' or '\f')
            {
                i++;
            }

            var (indent, start, startNumber, end, depth) = (i - begin, i, number, i, 0);
            while (i < text.Length && (text[i] != '\n' || depth > 0))
            {
                var c = text[i];
                if (c is '"' or '\'')
                {
                    end = SkipString(text, i);
                    number += text.AsSpan(i, end - i).Count('\n');
                    i = end;
                    continue;
                }

                if (c == '#')
                {
                    i = text.IndexOf('\n', i) is var stop && stop < 0 ? text.Length : stop;
                    continue;
                }

                if (c == '\\' && i + 1 < text.Length && text[i + 1] == '\n')
                {
                    number++;
                    i += 2;
                    continue;
                }

                depth = c is '(' or '[' or '{' ? depth + 1 : c is ')' or ']' or '}' ? Math.Max(0, depth - 1) : depth;
                number += c == '\n' ? 1 : 0;
                i++;
                end = char.IsWhiteSpace(c) ? end : i;
            }

            if (end > start)
            {
                lines.Add(new LogicalLine(start, end, indent, startNumber));
            }

            i++;
            number++;
        }

        return lines;
    }

    /// <summary>The position after the string that begins here; an unclosed short string ends with its line, an unclosed long one with the
    /// text.</summary>
    private static int SkipString(string text, int at)
    {
        var quote = text[at];
        var isLong = at + 2 < text.Length && text[at + 1] == quote && text[at + 2] == quote;
        for (var i = at + (isLong ? 3 : 1); i < text.Length; i++)
        {
            if (text[i] == '\\')
            {
                i++;
            }
            else if (!isLong && text[i] is '\n')
            {
                return i;
            }
            else if (text[i] == quote && (!isLong || (i + 2 < text.Length && text[i + 1] == quote && text[i + 2] == quote)))
            {
                return i + (isLong ? 3 : 1);
            }
        }

        return text.Length;
    }

    private static string? Name(ReadOnlySpan<char> line)
    {
        line = line.StartsWith("async ", StringComparison.Ordinal) ? line[6..].TrimStart() : line;
        if (!line.StartsWith("def ", StringComparison.Ordinal))
        {
            return null;
        }

        line = line[4..].TrimStart();
        var end = line.IndexOfAny("([ ");
        return end > 0 && IsName(line[..end]) ? line[..end].ToString() : null;
    }

    private static string? Docstring(ReadOnlySpan<char> line)
    {
        line = line is ['r' or 'R' or 'u' or 'U', '"' or '\'', ..] ? line[1..] : line;
        if (line is not ['"' or '\'', ..])
        {
            return null;
        }

        var marks = line.Length >= 6 && line[1] == line[0] && line[2] == line[0] ? 3 : 1;
        return line.Length >= 2 * marks && line[^1] == line[0] ? line[marks..^marks].Trim().ToString() : null;
    }

    private static bool IsImport(ReadOnlySpan<char> line) => StartsWithWord(line, "import") || StartsWithWord(line, "from");

    private static bool StartsWithWord(ReadOnlySpan<char> line, string word) =>
        line.StartsWith(word, StringComparison.Ordinal)
            && (line.Length == word.Length || !(char.IsAsciiLetterOrDigit(line[word.Length]) || line[word.Length] == '_'));

    /// <summary>The names that an import binds.</summary>
    private static IEnumerable<string> Imported(string line)
    {
        var list = line.StartsWith("from", StringComparison.Ordinal)
            && line.IndexOf(" import ", StringComparison.Ordinal) is var at and >= 0 ? line[(at + 8)..] : line[6..];
        foreach (var part in list.Trim('(', ')', ' ').Split(','))
        {
            var words = part.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (words.Length > 0)
            {
                yield return words[^1].Split('.')[0];
            }
        }
    }

    private static bool Uses(string code, string word)
    {
        for (var at = code.IndexOf(word, StringComparison.Ordinal); at >= 0; at = code.IndexOf(word, at + 1, StringComparison.Ordinal))
        {
            var (before, after) = (at == 0 ? ' ' : code[at - 1], at + word.Length == code.Length ? ' ' : code[at + word.Length]);
            if (!IsWordChar(before) && !IsWordChar(after))
            {
                return true;
            }
        }

        return false;
    }

    private static bool IsWordChar(char c) => char.IsLetterOrDigit(c) || c == '_';

    private readonly record struct LogicalLine(int Start, int End, int Indent, int Number);
}
