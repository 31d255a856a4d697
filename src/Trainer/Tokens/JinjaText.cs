using System.Globalization;
using System.Numerics;
using System.Text;

namespace Z1Coder.Trainer.Tokens;

/// <summary>Text as Python sees it: white space, code points, and how values are printed.</summary>
internal static class JinjaText
{
    /// <summary>str.isspace of one character.</summary>
    public static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\x1C' and <= '\x1F';

    /// <summary>str.rstrip()</summary>
    public static ReadOnlySpan<char> TrimEnd(ReadOnlySpan<char> text)
    {
        var end = text.Length;
        while (end > 0 && IsSpace(text[end - 1]))
        {
            end--;
        }

        return text[..end];
    }

    /// <summary>str.lstrip()</summary>
    public static ReadOnlySpan<char> TrimStart(ReadOnlySpan<char> text)
    {
        var start = 0;
        while (start < text.Length && IsSpace(text[start]))
        {
            start++;
        }

        return text[start..];
    }

    /// <summary>str.strip()</summary>
    public static ReadOnlySpan<char> Trim(ReadOnlySpan<char> text) => TrimStart(TrimEnd(text));

    /// <summary>The code points, or null when every UTF-16 unit is one.</summary>
    public static List<string>? Points(string text)
    {
        if (!text.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            return null;
        }

        var points = new List<string>(text.Length);
        for (var i = 0; i < text.Length; i++)
        {
            var pair = char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]);
            points.Add(text.Substring(i, pair ? 2 : 1));
            i += pair ? 1 : 0;
        }

        return points;
    }

    /// <summary>str(value): what {{ value }} prints.</summary>
    public static string Str(object? value) => value switch
    {
        string text => text,
        JinjaUndefined => "",
        _ => Repr(value),
    };

    /// <summary>repr(value)</summary>
    public static string Repr(object? value)
    {
        var text = new StringBuilder();
        Repr(value, text);
        return text.ToString();
    }

    /// <summary>repr(float): the shortest digits that read back, exponents from 1e16 and below 1e-4.</summary>
    public static string Repr(double value)
    {
        if (double.IsNaN(value))
        {
            return "nan";
        }

        if (double.IsInfinity(value))
        {
            return value > 0 ? "inf" : "-inf";
        }

        var digits = value.ToString("E16", CultureInfo.InvariantCulture);
        var shortest = value.ToString("R", CultureInfo.InvariantCulture);
        var exponent = value == 0 ? 0 : int.Parse(digits[(digits.IndexOf('E') + 1)..], CultureInfo.InvariantCulture);
        if (exponent is >= -4 and < 16)
        {
            if (shortest.Contains('E'))
            {
                shortest = ((decimal)value).ToString(CultureInfo.InvariantCulture);   // 1E-05 … 1E+15: within decimal's 28 digits
            }

            return shortest.Contains('.') ? shortest : shortest + ".0";
        }

        var at = shortest.IndexOf('E');
        if (at < 0)
        {
            shortest = value.ToString("0.################E+00", CultureInfo.InvariantCulture);
            at = shortest.IndexOf('E');
        }

        return $"{shortest[..at]}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent):00}";
    }

    /// <summary>json.dumps(value, ensure_ascii=False, indent=indent): what transformers' tojson prints.</summary>
    public static string Json(object? value, int indent = -1)
    {
        var text = new StringBuilder();
        Json(value, text, indent, 0);
        return text.ToString();
    }

    private static void Repr(object? value, StringBuilder text)
    {
        switch (value)
        {
            case null: text.Append("None"); break;
            case bool b: text.Append(b ? "True" : "False"); break;
            case long or BigInteger: text.Append(CultureInfo.InvariantCulture, $"{value}"); break;
            case double d: text.Append(Repr(d)); break;
            case string s: Quote(s, text); break;
            case JinjaUndefined: text.Append("Undefined"); break;
            case List<object?> list:
                text.Append('[');
                for (var i = 0; i < list.Count; i++)
                {
                    text.Append(i > 0 ? ", " : "");
                    Repr(list[i], text);
                }

                text.Append(']');
                break;
            case Dictionary<string, object?> map:
                text.Append('{');
                var first = true;
                foreach (var (key, item) in map)
                {
                    text.Append(first ? "" : ", ");
                    first = false;
                    Quote(key, text);
                    text.Append(": ");
                    Repr(item, text);
                }

                text.Append('}');
                break;
            default: throw new JinjaException($"{JinjaValue.Name(value)} cannot be printed");
        }
    }

    private static void Quote(string value, StringBuilder text)
    {
        var quote = value.Contains('\'') && !value.Contains('"') ? '"' : '\'';
        text.Append(quote);
        foreach (var c in value)
        {
            switch (c)
            {
                case '\\': text.Append("\\\\"); break;
                case '\n': text.Append("\\n"); break;
                case '\r': text.Append("\\r"); break;
                case '\t': text.Append("\\t"); break;
                case < ' ' or (>= '\x7F' and <= '\xA0') or '\xAD': text.Append("\\x").Append(((int)c).ToString("x2")); break;
                default:
                    text.Append(c == quote ? "\\" : "").Append(c);
                    break;
            }
        }

        text.Append(quote);
    }

    private static void Json(object? value, StringBuilder text, int indent, int level)
    {
        switch (value)
        {
            case null: text.Append("null"); break;
            case bool b: text.Append(b ? "true" : "false"); break;
            case long or BigInteger: text.Append(CultureInfo.InvariantCulture, $"{value}"); break;
            case double d: text.Append(double.IsNaN(d) ? "NaN" : double.IsInfinity(d) ? d > 0 ? "Infinity" : "-Infinity" : Repr(d)); break;
            case string s: JsonString(s, text); break;
            case List<object?> list:
                text.Append('[');
                for (var i = 0; i < list.Count; i++)
                {
                    Separate(text, indent, level + 1, i == 0);
                    Json(list[i], text, indent, level + 1);
                }

                Close(text, indent, level, list.Count, ']');
                break;
            case Dictionary<string, object?> map:
                text.Append('{');
                var first = true;
                foreach (var (key, item) in map)
                {
                    Separate(text, indent, level + 1, first);
                    first = false;
                    JsonString(key, text);
                    text.Append(": ");
                    Json(item, text, indent, level + 1);
                }

                Close(text, indent, level, map.Count, '}');
                break;
            default: throw new JinjaException($"tojson cannot write {JinjaValue.Name(value)}");
        }
    }

    private static void Separate(StringBuilder text, int indent, int level, bool first)
    {
        text.Append(first ? "" : indent < 0 ? ", " : ",");
        if (indent >= 0)
        {
            text.Append('\n').Append(' ', indent * level);
        }
    }

    private static void Close(StringBuilder text, int indent, int level, int count, char bracket)
    {
        if (indent >= 0 && count > 0)
        {
            text.Append('\n').Append(' ', indent * level);
        }

        text.Append(bracket);
    }

    private static void JsonString(string value, StringBuilder text)
    {
        text.Append('"');
        foreach (var c in value)
        {
            switch (c)
            {
                case '"': text.Append("\\\""); break;
                case '\\': text.Append("\\\\"); break;
                case '\n': text.Append("\\n"); break;
                case '\r': text.Append("\\r"); break;
                case '\t': text.Append("\\t"); break;
                case '\b': text.Append("\\b"); break;
                case '\f': text.Append("\\f"); break;
                case < ' ': text.Append("\\u").Append(((int)c).ToString("x4")); break;
                default: text.Append(c); break;
            }
        }

        text.Append('"');
    }
}
