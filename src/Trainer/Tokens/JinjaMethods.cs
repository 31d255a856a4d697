namespace Z1Coder.Trainer.Tokens;

/// <summary>Python's methods of strings, mappings and lists that templates call.</summary>
internal static class JinjaMethods
{
    /// <summary>Method names, each with the fewest and most arguments it takes.</summary>
    public static readonly Dictionary<string, (int Fewest, int Most)> Known = new(StringComparer.Ordinal)
    {
        ["split"] = (0, 2), ["rsplit"] = (1, 2), ["splitlines"] = (0, 0), ["strip"] = (0, 1), ["lstrip"] = (0, 1), ["rstrip"] = (0, 1),
        ["startswith"] = (1, 1), ["endswith"] = (1, 1), ["upper"] = (0, 0), ["lower"] = (0, 0), ["capitalize"] = (0, 0),
        ["replace"] = (2, 3),
        ["find"] = (1, 1), ["rfind"] = (1, 1), ["count"] = (1, 1), ["join"] = (1, 1), ["removeprefix"] = (1, 1), ["removesuffix"] = (1, 1),
        ["items"] = (0, 0), ["keys"] = (0, 0), ["values"] = (0, 0), ["get"] = (1, 2), ["index"] = (1, 1), ["cycle"] = (1, 64),
    };

    public static object? Call(object? target, string name, List<object?> arguments)
    {
        var result = target switch
        {
            string text => OfString(text, name, arguments),
            Dictionary<string, object?> map => OfMap(map, name, arguments),
            List<object?> list => OfList(list, name, arguments),
            JinjaLoop loop when name == "cycle" => arguments[loop.Index % arguments.Count],
            JinjaUndefined undefined => throw new JinjaException($"'{undefined.Name}' is undefined, so it has no '{name}'"),
            _ => s_none,
        };
        return result == s_none ? throw new JinjaException($"{JinjaValue.Name(target)} has no method '{name}'") : result;
    }

    private static readonly object s_none = new();

    private static object? OfMap(Dictionary<string, object?> map, string name, List<object?> arguments) => name switch
    {
        "items" => map.Select(p => (object?)new List<object?> { p.Key, p.Value }).ToList(),
        "keys" => map.Keys.Cast<object?>().ToList(),
        "values" => map.Values.ToList(),
        "get" => arguments[0] is string key && map.TryGetValue(key, out var value) ? value : arguments.Count > 1 ? arguments[1] : null,
        _ => s_none,
    };

    private static object? OfList(List<object?> list, string name, List<object?> arguments) => name switch
    {
        "count" => (long)list.Count(item => JinjaValue.AreEqual(item, arguments[0])),
        "index" => list.FindIndex(item => JinjaValue.AreEqual(item, arguments[0])) is var at and >= 0 ? (long)at
            : throw new JinjaException("the value is not in the list"),
        _ => s_none,
    };

    private static object? OfString(string text, string name, List<object?> arguments) => name switch
    {
        "split" => Split(text, arguments),
        "rsplit" => SplitFromEnd(text, arguments),
        "splitlines" => Lines(text),
        "strip" => Strip(text, arguments, start: true, end: true),
        "lstrip" => Strip(text, arguments, start: true, end: false),
        "rstrip" => Strip(text, arguments, start: false, end: true),
        "startswith" => Any(arguments[0], part => text.StartsWith(part, StringComparison.Ordinal)),
        "endswith" => Any(arguments[0], part => text.EndsWith(part, StringComparison.Ordinal)),
        "upper" => text.ToUpperInvariant(),
        "lower" => text.ToLowerInvariant(),
        "capitalize" => text.Length == 0 ? text : text[..1].ToUpperInvariant() + text[1..].ToLowerInvariant(),
        "replace" => Replace(text, String(arguments[0]), String(arguments[1]), arguments.Count > 2 ? JinjaValue.ToLong(arguments[2]) : -1),
        "find" => Place(text, text.IndexOf(String(arguments[0]), StringComparison.Ordinal)),
        "rfind" => Place(text, text.LastIndexOf(String(arguments[0]), StringComparison.Ordinal)),
        "index" => text.IndexOf(String(arguments[0]), StringComparison.Ordinal) is var at and >= 0 ? Place(text, at)
            : throw new JinjaException("the substring is not found"),
        "count" => String(arguments[0]) is { Length: > 0 } part ? (long)(text.Split(part).Length - 1) : JinjaValue.Length(text) + 1,
        "join" => string.Join(text, JinjaValue.Items(arguments[0]).Select(item => String(item))),
        "removeprefix" => text.StartsWith(String(arguments[0]), StringComparison.Ordinal) ? text[String(arguments[0]).Length..] : text,
        "removesuffix" => text.EndsWith(String(arguments[0]), StringComparison.Ordinal) ? text[..^String(arguments[0]).Length] : text,
        _ => s_none,
    };

    private static string String(object? value) =>
        value as string ?? throw new JinjaException($"a string is needed, not {JinjaValue.Name(value)}");

    private static long Place(string text, int at) => at < 0 ? -1 : JinjaValue.Length(text[..at]);

    private static bool Any(object? parts, Predicate<string> holds) =>
        parts is List<object?> list ? list.Exists(part => holds(String(part))) : holds(String(parts));

    private static string Strip(string text, List<object?> arguments, bool start, bool end)
    {
        var rest = text.AsSpan();
        if (arguments.Count == 0 || arguments[0] is null)
        {
            rest = end ? JinjaText.TrimEnd(rest) : rest;
            return (start ? JinjaText.TrimStart(rest) : rest).ToString();
        }

        var set = String(arguments[0]);
        rest = start ? rest.TrimStart(set) : rest;
        return set.Length == 0 ? text : (end ? rest.TrimEnd(set) : rest).ToString();
    }

    private static List<object?> Split(string text, List<object?> arguments)
    {
        var most = arguments.Count > 1 ? JinjaValue.ToLong(arguments[1]) : -1;
        var count = most is < 0 or >= int.MaxValue ? int.MaxValue : (int)most + 1;
        if (arguments.Count > 0 && arguments[0] is not null)
        {
            var separator = String(arguments[0]);
            return separator.Length == 0 ? throw new JinjaException("split needs a separator that is not empty")
                : text.Split(separator, count).Cast<object?>().ToList();
        }

        var words = new List<object?>();
        var rest = JinjaText.TrimStart(text);
        while (!rest.IsEmpty)
        {
            var length = 0;
            while (length < rest.Length && !JinjaText.IsSpace(rest[length]))
            {
                length++;
            }

            if (words.Count == count - 1)
            {
                words.Add(rest.ToString());
                break;
            }

            words.Add(rest[..length].ToString());
            rest = JinjaText.TrimStart(rest[length..]);
        }

        return words;
    }

    private static List<object?> SplitFromEnd(string text, List<object?> arguments)
    {
        var separator = String(arguments[0]);
        var most = arguments.Count > 1 ? JinjaValue.ToLong(arguments[1]) : -1;
        if (separator.Length == 0)
        {
            throw new JinjaException("rsplit needs a separator that is not empty");
        }

        var parts = new List<object?>();
        while (most < 0 || parts.Count < most)
        {
            var at = text.LastIndexOf(separator, StringComparison.Ordinal);
            if (at < 0)
            {
                break;
            }

            parts.Add(text[(at + separator.Length)..]);
            text = text[..at];
        }

        parts.Add(text);
        parts.Reverse();
        return parts;
    }

    private static List<object?> Lines(string text)
    {
        var lines = text.Split(
            ["\r\n", "\n", "\r", "\v", "\f", "\x1C", "\x1D", "\x1E", "\x85", "\u2028", "\u2029"], StringSplitOptions.None)
            .Cast<object?>().ToList();
        if (lines[^1] is "")
        {
            lines.RemoveAt(lines.Count - 1);
        }

        return lines;
    }

    private static string Replace(string text, string old, string replacement, long most)
    {
        if (old.Length == 0)
        {
            throw new JinjaException("replace needs a text that is not empty");
        }

        if (most < 0)
        {
            return text.Replace(old, replacement, StringComparison.Ordinal);
        }

        var parts = text.Split(old, (int)Math.Min(most, int.MaxValue - 1) + 1);
        return string.Join(replacement, parts);
    }
}
