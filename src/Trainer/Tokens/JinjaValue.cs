using System.Numerics;
using System.Text.Json;

namespace Z1Coder.Trainer.Tokens;

/// <summary>A name or member that does not exist: false, empty and printed as nothing, but an error to look into or compute with.</summary>
/// <param name="Name">how the template spelt it</param>
internal sealed record JinjaUndefined(string Name);

/// <summary>namespace(…): the one value whose members a template can set.</summary>
internal sealed class JinjaNamespace
{
    public Dictionary<string, object?> Members { get; } = new(StringComparer.Ordinal);
}

/// <summary>The variable "loop".</summary>
internal sealed class JinjaLoop
{
    public required List<object?> Items { get; init; }

    public int Index { get; set; }

    public object? Member(string name) => name switch
    {
        "index" => Index + 1L,
        "index0" => (long)Index,
        "first" => Index == 0,
        "last" => Index == Items.Count - 1,
        "length" => (long)Items.Count,
        "revindex" => (long)(Items.Count - Index),
        "revindex0" => (long)(Items.Count - Index - 1),
        "previtem" => Index > 0 ? Items[Index - 1] : new JinjaUndefined("loop.previtem"),
        "nextitem" => Index + 1 < Items.Count ? Items[Index + 1] : new JinjaUndefined("loop.nextitem"),
        "depth" => 1L,                                        // counts recursive loops only
        "depth0" => 0L,
        _ => new JinjaUndefined("loop." + name),
    };
}

/// <summary>
/// Values are null (None), bool, long, BigInteger, double, string, List (lists and tuples), Dictionary with string keys, and the classes
/// above. Here is what Python's operators do with them.
/// </summary>
internal static class JinjaValue
{
    private const int MostJoined = 32 << 20;

    /// <summary>A JSON value as a template sees it.</summary>
    public static object? From(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.String => element.GetString(),
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Array => element.EnumerateArray().Select(From).ToList(),
        JsonValueKind.Object => Map(element),
        JsonValueKind.Number => Number(element),
        _ => null,
    };

    public static bool IsTrue(object? value) => value switch
    {
        null or JinjaUndefined => false,
        bool b => b,
        long l => l != 0,
        double d => d != 0,
        string s => s.Length > 0,
        List<object?> list => list.Count > 0,
        Dictionary<string, object?> map => map.Count > 0,
        _ => true,
    };

    public static bool AreEqual(object? a, object? b) => (a, b) switch
    {
        (null, null) => true,
        (null, _) or (_, null) => false,
        (string x, string y) => x == y,
        (JinjaUndefined, JinjaUndefined) => true,
        (BigInteger x, BigInteger y) => x == y,
        (List<object?> x, List<object?> y) => x.Count == y.Count && x.Zip(y).All(p => AreEqual(p.First, p.Second)),
        (Dictionary<string, object?> x, Dictionary<string, object?> y) =>
            x.Count == y.Count && x.All(p => y.TryGetValue(p.Key, out var other) && AreEqual(p.Value, other)),
        _ when IsNumber(a) && IsNumber(b) => a is double || b is double ? ToDouble(a) == ToDouble(b) : ToLong(a) == ToLong(b),
        _ => ReferenceEquals(a, b),
    };

    public static int Compare(object? a, object? b)
    {
        if (a is string x && b is string y)
        {
            return CompareByCodePoint(x, y);
        }

        if (IsNumber(a) && IsNumber(b))
        {
            return a is double || b is double ? ToDouble(a).CompareTo(ToDouble(b)) : ToLong(a).CompareTo(ToLong(b));
        }

        throw new JinjaException($"{Name(a)} and {Name(b)} have no order");
    }

    public static bool Contains(object? container, object? item) => container switch
    {
        JinjaUndefined => false,
        string text => item is string part ? text.Contains(part, StringComparison.Ordinal)
            : throw new JinjaException($"'in' a string needs a string, not {Name(item)}"),
        List<object?> list => list.Exists(i => AreEqual(i, item)),
        Dictionary<string, object?> map => item is string key && map.ContainsKey(key),
        _ => throw new JinjaException($"nothing is in {Name(container)}"),
    };

    public static object? Add(object? a, object? b) => (a, b) switch
    {
        (string x, string y) => (long)x.Length + y.Length <= MostJoined ? x + y : throw TooLong(),
        (List<object?> x, List<object?> y) => (long)x.Count + y.Count <= MostJoined ? x.Concat(y).ToList() : throw TooLong(),
        _ => Arithmetic("+", a, b),
    };

    public static object? Arithmetic(string op, object? a, object? b)
    {
        if (!IsNumber(a) || !IsNumber(b))
        {
            throw new JinjaException($"'{op}' cannot join {Name(a)} and {Name(b)}");
        }

        if (op is "/" or "//" or "%" && ToDouble(b) == 0)
        {
            throw new JinjaException("division by zero");
        }

        if (a is double || b is double || op == "/")
        {
            var (x, y) = (ToDouble(a), ToDouble(b));
            return op switch
            {
                "+" => x + y,
                "-" => x - y,
                "*" => x * y,
                "/" => x / y,
                "//" => Math.Floor(x / y),
                _ => x - (y * Math.Floor(x / y)),
            };
        }

        var (left, right) = (ToLong(a), ToLong(b));
        try
        {
            checked
            {
                return op switch
                {
                    "+" => left + right,
                    "-" => left - right,
                    "*" => left * right,
                    "//" => (left / right) - (left % right != 0 && left < 0 != right < 0 ? 1 : 0),
                    _ => left % right + (left % right != 0 && left < 0 != right < 0 ? right : 0),
                };
            }
        }
        catch (OverflowException)
        {
            throw new JinjaException($"{left} {op} {right} does not fit in 64 bits");
        }
    }

    public static object? Negate(object? value) => Arithmetic("-", 0L, value is bool or long or double ? value
        : throw new JinjaException($"{Name(value)} has no negative"));

    /// <summary>value.name</summary>
    public static object? Member(object? value, string name) => value switch
    {
        Dictionary<string, object?> map => map.TryGetValue(name, out var member) ? member : new JinjaUndefined(name),
        JinjaNamespace space => space.Members.TryGetValue(name, out var member) ? member : new JinjaUndefined(name),
        JinjaLoop loop => loop.Member(name),
        JinjaUndefined undefined => throw new JinjaException($"'{undefined.Name}' is undefined, so it has no '{name}'"),
        _ => new JinjaUndefined(name),
    };

    /// <summary>value[index]</summary>
    public static object? Item(object? value, object? index)
    {
        if (value is string text && IsNumber(index))
        {
            var points = JinjaText.Points(text);
            var at = Place(ToLong(index), points?.Count ?? text.Length);
            return at < 0 ? new JinjaUndefined("an index past the end") : points is null ? text[at].ToString() : points[at];
        }

        if (value is List<object?> list && IsNumber(index))
        {
            var at = Place(ToLong(index), list.Count);
            return at < 0 ? new JinjaUndefined("an index past the end") : list[at];
        }

        return index is string name ? Member(value, name)
            : value is JinjaUndefined undefined ? throw new JinjaException($"'{undefined.Name}' is undefined, so it has no items")
            : new JinjaUndefined(JinjaText.Repr(index));
    }

    /// <summary>value[start:stop:step] with Python's rules for negative and missing parts.</summary>
    public static object? Slice(object? value, object? start, object? stop, object? step)
    {
        if (value is string text)
        {
            var points = JinjaText.Points(text) ?? text.Select(c => c.ToString()).ToList();
            return string.Concat(Slice(points, start, stop, step));
        }

        return value is List<object?> list ? Slice(list, start, stop, step) : throw new JinjaException($"{Name(value)} cannot be sliced");
    }

    /// <summary>What a for loop walks over.</summary>
    public static List<object?> Items(object? value) => value switch
    {
        List<object?> list => list,
        JinjaUndefined => [],
        string text => (JinjaText.Points(text) ?? text.Select(c => c.ToString())).Cast<object?>().ToList(),
        Dictionary<string, object?> map => map.Keys.Cast<object?>().ToList(),
        _ => throw new JinjaException($"{Name(value)} cannot be looped over"),
    };

    public static long Length(object? value) => value switch
    {
        string text => JinjaText.Points(text)?.Count ?? text.Length,
        List<object?> list => list.Count,
        Dictionary<string, object?> map => map.Count,
        JinjaUndefined => 0,
        _ => throw new JinjaException($"{Name(value)} has no length"),
    };

    public static bool IsNumber(object? value) => value is long or double or bool;

    public static long ToLong(object? value) => value switch
    {
        long l => l,
        bool b => b ? 1 : 0,
        _ => throw new JinjaException($"a whole number is needed, not {Name(value)}"),
    };

    public static double ToDouble(object? value) => value is double d ? d : ToLong(value);

    /// <summary>A value's kind, for messages.</summary>
    public static string Name(object? value) => value switch
    {
        null => "none",
        JinjaUndefined undefined => $"the undefined '{undefined.Name}'",
        bool => "a boolean",
        long or double or BigInteger => "a number",
        string => "a string",
        List<object?> => "a list",
        Dictionary<string, object?> => "a mapping",
        JinjaNamespace => "a namespace",
        _ => "a loop",
    };

    private static JinjaException TooLong() => new($"a text or list grows over {MostJoined} items");

    private static int CompareByCodePoint(string a, string b)
    {
        for (var i = 0; i < a.Length && i < b.Length; i++)
        {
            if (a[i] != b[i])
            {
                var (x, y) = (char.IsSurrogate(a[i]), char.IsSurrogate(b[i]));
                return x == y ? a[i].CompareTo(b[i]) : x ? 1 : -1;
            }
        }

        return a.Length.CompareTo(b.Length);
    }

    private static int Place(long index, int count)
    {
        index += index < 0 ? count : 0;
        return index >= 0 && index < count ? (int)index : -1;
    }

    private static List<T> Slice<T>(List<T> items, object? start, object? stop, object? step)
    {
        var by = step is null ? 1 : ToLong(step);
        if (by == 0)
        {
            throw new JinjaException("a slice's step cannot be 0");
        }

        var from = Bound(start, by > 0 ? 0 : items.Count - 1);
        var to = Bound(stop, by > 0 ? items.Count : -1);
        var result = new List<T>();
        for (var i = from; by > 0 ? i < to : i > to; i += by)
        {
            result.Add(items[(int)i]);
            if (by is > int.MaxValue or < -int.MaxValue)
            {
                break;
            }
        }

        return result;

        long Bound(object? bound, int missing)
        {
            if (bound is null)
            {
                return missing;
            }

            var at = ToLong(bound);
            at += at < 0 ? items.Count : 0;
            return Math.Clamp(at, by > 0 ? 0 : -1, by > 0 ? items.Count : items.Count - 1);
        }
    }

    private static Dictionary<string, object?> Map(JsonElement element)
    {
        var map = new Dictionary<string, object?>(StringComparer.Ordinal);
        foreach (var member in element.EnumerateObject())
        {
            map[member.Name] = From(member.Value);
        }

        return map;
    }

    private static object Number(JsonElement element)
    {
        if (element.TryGetInt64(out var whole))
        {
            return whole;
        }

        var text = element.GetRawText();
        return text.AsSpan().ContainsAny('.', 'e', 'E') ? element.GetDouble() : BigInteger.Parse(text);
    }
}
