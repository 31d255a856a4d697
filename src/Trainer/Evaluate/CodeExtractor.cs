namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// Takes the program out of a chat answer. Everything up to the last &lt;/think&gt; is dropped. Among the fenced blocks (``` or ~~~, also
/// indented, also unfinished at the end of the text) those that define the entry point come first, then those marked python, then those without a
/// mark, then any other; the last or first of the best counts. Without a fence the whole text is the code, less prose lines before the first line
/// that starts a program. One pass over the lines: linear in the text, whatever it holds.
/// </summary>
public static class CodeExtractor
{
    private const string ThinkEnd = "</think>";
    private const int FenceLength = 3;
    private const int ClosingSlack = 3;                 // a closing fence stands at most this much deeper; deeper ones belong to a docstring
    private const int FewWords = 3;

    /// <summary>The code of <paramref name="answer"/>; ends with a line break unless it is empty.</summary>
    /// <param name="answer">Text of the model, reasoning included.</param>
    /// <param name="choice">Which of several equally good blocks.</param>
    /// <param name="entryPoint">Function that the program must define, when known.</param>
    public static string Extract(string answer, CodeChoice choice = CodeChoice.Last, string? entryPoint = null)
    {
        var from = answer.LastIndexOf(ThinkEnd, StringComparison.Ordinal);
        var text = from < 0 ? answer : answer[(from + ThinkEnd.Length)..];
        Block? best = null;
        var bestScore = -1;
        Block? open = null;
        var fenced = false;
        for (var at = 0; at < text.Length;)
        {
            var next = text.IndexOf('\n', at) + 1;
            next = next == 0 ? text.Length : next;
            var line = text.AsSpan(at, next - at).TrimEnd();
            var indent = line.Length - line.TrimStart().Length;
            var fence = FenceOf(line[indent..]);
            if (open is not null)
            {
                if (fence >= open.Fence && line[indent] == open.Mark && line[(indent + fence)..].IsEmpty && indent <= open.Indent + ClosingSlack)
                {
                    open.End = at;
                    Offer(open);
                    open = null;
                }
            }
            else if (fence > 0 && (line[indent] == '~' || !line[(indent + fence)..].Contains('`')))
            {
                open = new Block(next, indent, fence, line[indent], RankOf(line[(indent + fence)..].Trim())) { End = text.Length };
            }

            at = next;
        }

        if (open is not null)
        {
            Offer(open);
        }

        return Finish(best is null ? fenced ? "" : Unfenced(text) : Dedent(text.AsSpan(best.Start, best.End - best.Start), best.Indent));

        void Offer(Block block)
        {
            fenced = true;
            var score = block.Rank + (entryPoint is not null && Defines(text.AsSpan(block.Start, block.End - block.Start), entryPoint) ? 10 : 0);
            if (block.End > block.Start && (score > bestScore || (score == bestScore && choice == CodeChoice.Last)))
            {
                (best, bestScore) = (block, score);
            }
        }
    }

    /// <summary>A completion that continues a fenced prompt ends at the first "```" (the rule of CodeEval-Pro).</summary>
    public static string CutAtFence(string completion)
    {
        var at = completion.IndexOf("```", StringComparison.Ordinal);
        return at < 0 ? completion : completion[..at];
    }

    /// <summary>True when some line of <paramref name="code"/> defines a function of this name (at the line's start, blanks before it allowed).</summary>
    public static bool Defines(ReadOnlySpan<char> code, string name)
    {
        foreach (var range in code.Split('\n'))
        {
            var line = code[range].TrimStart();
            line = line.StartsWith("async ", StringComparison.Ordinal) ? line[6..].TrimStart() : line;
            if (line.StartsWith("def ", StringComparison.Ordinal))
            {
                line = line[4..].TrimStart();
                if (line.StartsWith(name, StringComparison.Ordinal) && line[name.Length..].TrimStart() is ['(' or '[', ..])
                {
                    return true;
                }
            }
        }

        return false;
    }

    private static int FenceOf(ReadOnlySpan<char> line)
    {
        if (line is not ['`' or '~', ..])
        {
            return 0;
        }

        var length = line.IndexOfAnyExcept(line[0]);
        length = length < 0 ? line.Length : length;
        return length >= FenceLength ? length : 0;
    }

    private static int RankOf(ReadOnlySpan<char> mark)
    {
        var end = mark.IndexOfAny(" \t{:,");
        var language = end < 0 ? mark : mark[..end];
        return language.IsEmpty ? 1
            : language.Equals("python", StringComparison.OrdinalIgnoreCase) || language.Equals("py", StringComparison.OrdinalIgnoreCase)
                || language.Equals("python3", StringComparison.OrdinalIgnoreCase) ? 2 : 0;
    }

    private static string Dedent(ReadOnlySpan<char> block, int indent)
    {
        if (indent == 0)
        {
            return block.ToString();
        }

        var result = new System.Text.StringBuilder(block.Length);
        foreach (var range in block.Split('\n'))
        {
            var line = block[range];
            var blanks = line.Length - line.TrimStart(" \t").Length;
            result.Append(line[Math.Min(indent, blanks)..]).Append('\n');
        }

        return result.ToString();
    }

    private static string Unfenced(string text)
    {
        var prose = false;
        for (var at = 0; at < text.Length;)
        {
            var next = text.IndexOf('\n', at) + 1;
            next = next == 0 ? text.Length : next;
            var line = text.AsSpan(at, next - at).TrimEnd();
            if (StartsProgram(line))
            {
                return prose ? text[at..] : text;
            }

            prose |= LooksLikeProse(line);
            at = next;
        }

        return text;
    }

    private static bool StartsProgram(ReadOnlySpan<char> line) =>
        (line.StartsWith("def ", StringComparison.Ordinal) && line.Contains('('))
        || (line.StartsWith("async def ", StringComparison.Ordinal) && line.Contains('('))
        || (line.StartsWith("class ", StringComparison.Ordinal) && line.EndsWith(":", StringComparison.Ordinal))
        || (line.StartsWith("from ", StringComparison.Ordinal) && line.Contains(" import ", StringComparison.Ordinal))
        || (line.StartsWith("import ", StringComparison.Ordinal) && !line.EndsWith(".", StringComparison.Ordinal))
        || (line is ['@', _, ..] && !line.Contains(' '));

    private static bool LooksLikeProse(ReadOnlySpan<char> line) =>
        line is [not ' ' and not '\t' and not '#' and not '"' and not '\'', .., '.' or ':' or '!' or '?' or ',']
        && line.Count(' ') >= FewWords - 1 && !line.Contains('=');

    private static string Finish(string code)
    {
        code = code.TrimEnd();
        return code.Length == 0 ? "" : code + "\n";
    }

    private sealed record Block(int Start, int Indent, int Fence, char Mark, int Rank)
    {
        internal int End { get; set; }
    }
}
