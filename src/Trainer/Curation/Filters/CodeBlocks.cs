namespace Z1Coder.Trainer.Curation.Filters;

/// <summary>The fenced blocks of an answer, as far as a filter asks: is there code, in which language, and is the last block
/// closed.</summary>
/// <param name="Any">there is a fenced block with something in it</param>
/// <param name="Python">one is marked python, or is unmarked and reads like Python</param>
/// <param name="Unclosed">the last fence is not closed: the answer was cut inside</param>
public readonly record struct CodeBlocks(bool Any, bool Python, bool Unclosed)
{
    /// <summary>Looks at the whole text; fences are lines that begin with three backticks.</summary>
    public static CodeBlocks Of(ReadOnlySpan<char> text)
    {
        var (any, python, open) = (false, false, false);
        var language = default(ReadOnlySpan<char>);
        foreach (var range in text.Split('\n'))
        {
            var line = text[range].Trim();
            if (line.StartsWith("```", StringComparison.Ordinal))
            {
                language = line.TrimStart('`').Trim();
                open = !open;
            }
            else if (open && line.Length > 0)
            {
                any = true;
                python |= IsPython(language) || (language.IsEmpty && ReadsLikePython(line));
            }
        }

        return new CodeBlocks(any, python, open);
    }

    private static bool IsPython(ReadOnlySpan<char> language) => language.StartsWith("py", StringComparison.OrdinalIgnoreCase);

    private static bool ReadsLikePython(ReadOnlySpan<char> line) =>
        (line.StartsWith("def ", StringComparison.Ordinal) && line.EndsWith(":", StringComparison.Ordinal))
        || line.StartsWith("import ", StringComparison.Ordinal)
            || (line.StartsWith("from ", StringComparison.Ordinal) && line.Contains(" import ", StringComparison.Ordinal))
        || line.StartsWith("print(", StringComparison.Ordinal);
}
