using System.Globalization;
using System.Runtime.CompilerServices;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// The pre-tokenisation expressions as state machines over code points: each call finds the end of one word, reading every character
/// a bounded number of times. A lone surrogate counts as U+FFFD, which it becomes in UTF-8.
/// </summary>
internal static class PreTokenizer
{
    /// <summary>The expression that <see cref="PreTokenizerRule.Qwen2"/> carries out.</summary>
    public const string Qwen2Pattern =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private const byte Other = 0, Letter = 1, Number = 2, Space = 3, LineEnd = 4, Surrogate = 5;

    private static readonly byte[] s_classes = BuildClasses();

    /// <summary>The end of the word that starts at <paramref name="start"/>; the text's end is a boundary.</summary>
    public static int End(PreTokenizerRule rule, ReadOnlySpan<char> text, int start) =>
        rule == PreTokenizerRule.Qwen2 ? EndQwen2(text, start) : EndGpt2(text, start);

    /// <summary>As <see cref="End"/>, for <see cref="Qwen2Pattern"/>.</summary>
    public static int EndQwen2(ReadOnlySpan<char> text, int start)
    {
        var c = text[start];
        var kind = s_classes[c];
        var width = 1;
        if (kind == Letter)
        {
            return SkipLetters(text, start + 1);
        }

        if (kind == Surrogate)
        {
            kind = ClassOf(text, start, out width);
            if (kind == Letter)
            {
                return SkipLetters(text, start + width);
            }
        }

        var next = start + width;
        if (kind == Number)
        {
            return next;
        }

        if (kind == LineEnd)
        {
            return SkipSpace(text, start);
        }

        var followingWidth = 0;
        var following = next < text.Length ? ClassOf(text, next, out followingWidth) : Space;
        if (c == '\'' && ContractionAnyCase(text, next) is var length and not 0)
        {
            return next + length;
        }

        if (following == Letter)
        {
            return SkipLetters(text, next + followingWidth);
        }

        if (kind == Other)
        {
            return SkipLineEnds(text, SkipOthers(text, next));
        }

        return c == ' ' && following == Other ? SkipLineEnds(text, SkipOthers(text, next)) : SkipSpace(text, start);
    }

    /// <summary>As <see cref="End"/>, for 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+.</summary>
    public static int EndGpt2(ReadOnlySpan<char> text, int start)
    {
        if (text[start] == '\'' && ContractionLowerCase(text, start + 1) is var length and not 0)
        {
            return start + 1 + length;
        }

        var at = start;
        var kind = ClassOf(text, at, out var width);
        if (text[start] == ' ' && start + 1 < text.Length)
        {
            at = start + 1;
            kind = ClassOf(text, at, out width);
        }

        switch (kind)
        {
            case Letter: return SkipLetters(text, at + width);
            case Number: return SkipNumbers(text, at + width);
            case Other: return SkipOthers(text, at + width);
        }

        var end = start;
        while (end < text.Length && s_classes[text[end]] is Space or LineEnd)
        {
            end++;
        }

        return end == text.Length || end == start + 1 ? end : end - 1;
    }

    /// <summary>\s*[\r\n]+, else \s+(?!\S), else \s+, from the first white space.</summary>
    private static int SkipSpace(ReadOnlySpan<char> text, int start)
    {
        var end = start;
        var afterLineEnd = -1;
        for (; end < text.Length; end++)
        {
            var kind = s_classes[text[end]];
            if (kind == LineEnd)
            {
                afterLineEnd = end + 1;
            }
            else if (kind != Space)
            {
                break;
            }
        }

        if (afterLineEnd >= 0)
        {
            return afterLineEnd;
        }

        return end == text.Length || end == start + 1 ? end : end - 1;
    }

    private static int SkipLetters(ReadOnlySpan<char> text, int at)
    {
        var classes = s_classes;
        while ((uint)at < (uint)text.Length)
        {
            var kind = classes[text[at]];
            if (kind == Letter)
            {
                at++;
            }
            else if (kind == Surrogate && ClassOf(text, at, out var width) == Letter)
            {
                at += width;
            }
            else
            {
                break;
            }
        }

        return at;
    }

    private static int SkipOthers(ReadOnlySpan<char> text, int at)
    {
        var classes = s_classes;
        while ((uint)at < (uint)text.Length)
        {
            var kind = classes[text[at]];
            if (kind == Other)
            {
                at++;
            }
            else if (kind == Surrogate && ClassOf(text, at, out var width) == Other)
            {
                at += width;
            }
            else
            {
                break;
            }
        }

        return at;
    }

    private static int SkipNumbers(ReadOnlySpan<char> text, int at)
    {
        while (at < text.Length && ClassOf(text, at, out var width) == Number)
        {
            at += width;
        }

        return at;
    }

    private static int SkipLineEnds(ReadOnlySpan<char> text, int at)
    {
        while (at < text.Length && text[at] is '\r' or '\n')
        {
            at++;
        }

        return at;
    }

    /// <summary>Characters of the contraction after an apostrophe, or 0. U+017F (long s) is an s in another case.</summary>
    private static int ContractionAnyCase(ReadOnlySpan<char> text, int at)
    {
        if (at >= text.Length)
        {
            return 0;
        }

        var first = text[at] | 0x20;
        if (first is 's' or 't' or 'm' or 'd' || text[at] == '\u017F')
        {
            return text[at] < 0x80 || text[at] == '\u017F' ? 1 : 0;
        }

        if (at + 1 >= text.Length || text[at] >= 0x80 || text[at + 1] >= 0x80)
        {
            return 0;
        }

        var second = text[at + 1] | 0x20;
        return (first, second) is ('r', 'e') or ('v', 'e') or ('l', 'l') ? 2 : 0;
    }

    private static int ContractionLowerCase(ReadOnlySpan<char> text, int at)
    {
        if (at >= text.Length)
        {
            return 0;
        }

        if (text[at] is 's' or 't' or 'm' or 'd')
        {
            return 1;
        }

        return at + 1 < text.Length && (text[at], text[at + 1]) is ('r', 'e') or ('v', 'e') or ('l', 'l') ? 2 : 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static byte ClassOf(ReadOnlySpan<char> text, int at, out int width)
    {
        width = 1;
        var kind = s_classes[text[at]];
        return kind == Surrogate ? ClassOfPair(text, at, out width) : kind;
    }

    private static byte ClassOfPair(ReadOnlySpan<char> text, int at, out int width)
    {
        width = 1;
        if (!char.IsHighSurrogate(text[at]) || at + 1 >= text.Length || !char.IsLowSurrogate(text[at + 1]))
        {
            return Other;
        }

        width = 2;
        return ClassOf(CharUnicodeInfo.GetUnicodeCategory(char.ConvertToUtf32(text[at], text[at + 1])));
    }

    private static byte ClassOf(UnicodeCategory category) => category switch
    {
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
            or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => Letter,
        UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Number,
        UnicodeCategory.Surrogate => Surrogate,
        _ => Other,
    };

    private static byte[] BuildClasses()
    {
        var classes = new byte[0x10000];
        for (var c = 0; c < classes.Length; c++)
        {
            classes[c] = c is '\r' or '\n' ? LineEnd
                : char.IsWhiteSpace((char)c) ? Space : ClassOf(CharUnicodeInfo.GetUnicodeCategory((char)c));
        }

        return classes;
    }
}
