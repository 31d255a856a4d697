using System.Globalization;
using System.Text;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Train;

/// <summary>
/// A YAML mapping being read: every key asked for is recorded with its resolved value, and a key that nobody asked for is an error that
/// suggests the nearest known one. Scalars are YAML's; the text of a recipe is checked here and nowhere else.
/// </summary>
public sealed class RecipeTree
{
    private readonly string _file;
    private readonly string _path;
    private readonly Dictionary<string, object> _given;
    private readonly List<(string Key, object? Value)> _resolved = [];

    private RecipeTree(string file, string path, Dictionary<string, object> given) => (_file, _path, _given) = (file, path, given);

    /// <summary>
    /// Reads a file and applies overrides of the form a.b=c (list entries by number: stages.0.train.lr=1e-4). One of a section
    /// also holds for the entries of a list that state that section themselves; one that names an entry is stronger, in whatever order.
    /// </summary>
    /// <exception cref="InvalidInputException">no such file, not YAML, not a mapping, or an override without '='</exception>
    public static RecipeTree Load(string file, IEnumerable<string> overrides)
    {
        if (!File.Exists(file))
        {
            throw new InvalidInputException($"{file}: no such recipe");
        }

        return Parse(file, File.ReadAllText(file), overrides);
    }

    /// <summary>As <see cref="Load"/>, from text; <paramref name="file"/> is used in messages.</summary>
    public static RecipeTree Parse(string file, string yaml, IEnumerable<string> overrides)
    {
        var root = ParseYaml(file, yaml) as Dictionary<string, object>
            ?? throw new InvalidInputException($"{file}: a recipe is a mapping of keys to values");
        foreach (var (path, value) in overrides.Select(ParseOverride).OrderBy(o => NamesEntry(root, o.Path)))
        {
            Override(root, path, value);
            foreach (var entry in Entries(root).Where(e => StatesSection(e, path)))
            {
                Override(entry, path, Copy(value));
            }
        }

        return new RecipeTree(file, "", root);
    }

    /// <summary>Whether the key is present.</summary>
    public bool Has(string key) => _given.ContainsKey(key);

    /// <summary>A string; absent or empty it is the fallback, so that --set key= takes a key away.</summary>
    public string? Text(string key, string? fallback = null) => Take(key, fallback, value => value.Length == 0 ? fallback : value);

    /// <summary>A string that must be there.</summary>
    public string RequiredText(string key) => Text(key) ?? throw new InvalidInputException($"{_file}: key '{Full(key)}' is missing");

    /// <summary>A whole number within bounds.</summary>
    public int Int(string key, int fallback, int minimum = 0, int maximum = int.MaxValue) => (int)Long(key, fallback, minimum, maximum);

    /// <summary>A whole number within bounds.</summary>
    public long Long(string key, long fallback, long minimum = 0, long maximum = long.MaxValue) =>
        Take(key, fallback, value => long.TryParse(value.Replace("_", ""), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
                && number >= minimum && number <= maximum
            ? number
            : throw Wrong(key, value, $"a whole number from {minimum}{(maximum is int.MaxValue or long.MaxValue ? "" : $" to {maximum}")}"));

    /// <summary>A number within bounds; not NaN, not infinite.</summary>
    public double Number(string key, double fallback, double minimum = 0, double maximum = double.MaxValue) =>
        Take(key, fallback, value => double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out var number)
                && number >= minimum && number <= maximum
            ? number
            : throw Wrong(key, value, $"a number from {minimum}{(maximum == double.MaxValue ? "" : $" to {maximum}")}"));

    /// <summary>true or false.</summary>
    public bool Flag(string key, bool fallback) =>
        Take(key, fallback, value => value switch { "true" => true, "false" => false, _ => throw Wrong(key, value, "true or false") });

    /// <summary>One of the names given.</summary>
    public string Choice(string key, string fallback, params ReadOnlySpan<string> names)
    {
        var value = Text(key, fallback)!;
        return names.Contains(value) ? value : throw Wrong(key, value, $"one of {string.Join(", ", names.ToArray())}");
    }

    /// <summary>A list of strings; a single scalar is a list of one.</summary>
    public IReadOnlyList<string> Texts(string key)
    {
        IReadOnlyList<string> list = _given.GetValueOrDefault(key) switch
        {
            null => [],
            string one => [one],
            List<object> many when many.All(m => m is string) => [.. many.Cast<string>()],
            _ => throw Wrong(key, "a mapping", "a list of strings"),
        };
        _resolved.Add((key, list));
        return list;
    }

    /// <summary>A nested mapping; absent reads as empty.</summary>
    public RecipeTree Section(string key)
    {
        var child = _given.GetValueOrDefault(key) switch
        {
            null => new RecipeTree(_file, Full(key), []),
            Dictionary<string, object> map => new RecipeTree(_file, Full(key), map),
            var other => throw Wrong(key, other as string ?? "a list", $"a mapping; one key of it is --set {Full(key)}.KEY=VALUE"),
        };
        _resolved.Add((key, child));
        return child;
    }

    /// <summary>A list of mappings, each laid over <paramref name="defaults"/> (keys of this tree that every entry inherits).</summary>
    public IReadOnlyList<RecipeTree> Sections(string key, params ReadOnlySpan<string> defaults)
    {
        if (_given.GetValueOrDefault(key) is not List<object> { Count: > 0 } entries)
        {
            throw new InvalidInputException($"{_file}: '{Full(key)}' must be a list with at least one entry");
        }

        var children = new List<RecipeTree>();
        foreach (var entry in entries)
        {
            if (entry is not Dictionary<string, object> map)
            {
                throw new InvalidInputException($"{_file}: every entry of '{Full(key)}' must be a mapping");
            }

            var merged = new Dictionary<string, object>();
            foreach (var name in defaults)
            {
                if (_given.TryGetValue(name, out var inherited))
                {
                    merged[name] = Copy(inherited);
                }
            }

            Merge(merged, map);
            children.Add(new RecipeTree(_file, $"{Full(key)}.{children.Count}", merged));
        }

        _inherited.UnionWith(defaults.ToArray());
        _resolved.Add((key, children));
        return children;
    }

    private readonly HashSet<string> _inherited = [];

    /// <summary>Fails on the first key that nobody asked for, here and below.</summary>
    public void RejectUnknownKeys()
    {
        var known = _resolved.Select(r => r.Key).Concat(_inherited).ToHashSet();
        foreach (var key in _given.Keys.Where(k => !known.Contains(k)))
        {
            var near = known.OrderBy(k => Distance(k, key)).FirstOrDefault();
            var hint = near is not null && Distance(near, key) <= Math.Max(2, key.Length / 2) ? $"; did you mean '{Full(near)}'?" : "";
            throw new InvalidInputException($"{_file}: unknown key '{Full(key)}'{hint}{(hint == "" ? $"; known here: {string.Join(", ", known.Order())}" : "")}");
        }

        foreach (var (_, value) in _resolved)
        {
            foreach (var child in value as IEnumerable<RecipeTree> ?? (value is RecipeTree one ? [one] : []))
            {
                child.RejectUnknownKeys();
            }
        }
    }

    /// <summary>Everything that was read, defaults included, as YAML: reading it again resolves to the same.</summary>
    public string ResolvedYaml()
    {
        var text = new StringBuilder();
        Write(text, 0, listItem: false);
        return text.ToString();
    }

    private void Write(StringBuilder text, int indent, bool listItem)
    {
        var first = listItem;
        foreach (var (key, value) in _resolved.DistinctBy(r => r.Key))
        {
            var lead = first ? "" : new string(' ', indent);
            first = false;
            switch (value)
            {
                case null:
                    continue;
                case RecipeTree tree when tree._resolved.TrueForAll(r => r.Value is null):
                    continue;
                case RecipeTree tree:
                    text.Append($"{lead}{key}:\n");
                    tree.Write(text, indent + 2, listItem: false);
                    break;
                case List<RecipeTree> trees:
                    text.Append($"{lead}{key}:\n");
                    foreach (var tree in trees)
                    {
                        text.Append($"{new string(' ', indent)}- ");
                        tree.Write(text, indent + 2, listItem: true);
                    }

                    break;
                case IReadOnlyList<string> texts:
                    text.Append($"{lead}{key}: [{string.Join(", ", texts.Select(Quote))}]\n");
                    break;
                default:
                    text.Append($"{lead}{key}: {Quote(Scalar(value))}\n");
                    break;
            }
        }
    }

    private static string Scalar(object value) => value switch
    {
        bool flag => flag ? "true" : "false",
        double number => number.ToString("R"),
        _ => value.ToString()!,
    };

    private static string Quote(string text) =>
        text.Length > 0 && text.All(c => char.IsAsciiLetterOrDigit(c) || "._-/+".Contains(c)) && !text.StartsWith('-')
            ? text
            : $"\"{text.Replace("\\", "\\\\").Replace("\"", "\\\"").Replace("\n", "\\n").Replace("\t", "\\t")}\"";

    private TValue Take<TValue>(string key, TValue fallback, Func<string, TValue> read)
    {
        TValue value;
        switch (_given.GetValueOrDefault(key))
        {
            case null:
                value = fallback;
                break;
            case string text:
                value = read(text);
                break;
            default:
                throw Wrong(key, "a list or mapping", "a single value");
        }

        _resolved.Add((key, value));
        return value;
    }

    /// <summary>What a reader of this section finds wrong beyond the single value: "'a.b.key' <paramref name="what"/>".</summary>
    internal InvalidInputException Error(string key, string what) => new($"{_file}: '{Full(key)}' {what}");

    private string Full(string key) => _path == "" ? key : $"{_path}.{key}";

    private InvalidInputException Wrong(string key, string value, string expected) =>
        new($"{_file}: '{Full(key)}' is {(value.Length == 0 ? "empty" : $"'{value}'")}, must be {expected}");

    private static object ParseYaml(string file, string yaml)
    {
        var stream = new YamlStream();
        try
        {
            stream.Load(new StringReader(yaml));
        }
        catch (YamlException e)
        {
            throw new InvalidInputException($"{file}: line {e.Start.Line}: not valid YAML: {e.Message}", e);
        }

        return stream.Documents.Count == 0 ? "" : Convert(file, stream.Documents[0].RootNode);
    }

    private static object Convert(string file, YamlNode node)
    {
        switch (node)
        {
            case YamlScalarNode scalar:
                return scalar.Value ?? "";
            case YamlSequenceNode sequence:
                return sequence.Children.Select(child => Convert(file, child)).ToList();
            case YamlMappingNode mapping:
                var map = new Dictionary<string, object>();
                foreach (var (key, value) in mapping.Children)
                {
                    if (key is not YamlScalarNode { Value: { } name })
                    {
                        throw new InvalidInputException($"{file}: line {key.Start.Line}: keys must be plain names");
                    }

                    map[name] = Convert(file, value);
                }

                return map;
            default:
                throw new InvalidInputException($"{file}: line {node.Start.Line}: anchors are not supported");
        }
    }

    private static (string Path, object Value) ParseOverride(string text)
    {
        var equals = text.IndexOf('=');
        return equals > 0
            ? (text[..equals], ParseYaml($"--set {text}", text[(equals + 1)..]))
            : throw new InvalidInputException($"--set {text}: write it as a.b=value");
    }

    private static bool NamesEntry(Dictionary<string, object> root, string path) =>
        path.Split('.', 2) is [var list, _] && root.GetValueOrDefault(list) is List<object>;

    private static IEnumerable<Dictionary<string, object>> Entries(Dictionary<string, object> root) =>
        root.Values.OfType<List<object>>().SelectMany(list => list).OfType<Dictionary<string, object>>();

    private static bool StatesSection(Dictionary<string, object> entry, string path) =>
        entry.GetValueOrDefault(path.Split('.', 2)[0]) is Dictionary<string, object>;

    private static void Override(Dictionary<string, object> root, string path, object value)
    {
        object node = root;
        var parts = path.Split('.');
        for (var i = 0; i < parts.Length; i++)
        {
            var last = i == parts.Length - 1;
            switch (node)
            {
                case Dictionary<string, object> map:
                    if (last)
                    {
                        map[parts[i]] = value;
                    }
                    else if (!map.TryGetValue(parts[i], out node!) || node is string)
                    {
                        map[parts[i]] = node = new Dictionary<string, object>();
                    }

                    break;
                case List<object> list when int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out var index) && index < list.Count:
                    if (last)
                    {
                        list[index] = value;
                    }
                    else
                    {
                        node = list[index];
                    }

                    break;
                default:
                    throw new InvalidInputException($"--set {path}: '{parts[i]}' is not an entry of a list or mapping there");
            }
        }
    }

    private static void Merge(Dictionary<string, object> target, Dictionary<string, object> source)
    {
        foreach (var (key, value) in source)
        {
            if (value is Dictionary<string, object> map && target.GetValueOrDefault(key) is Dictionary<string, object> existing)
            {
                Merge(existing, map);
            }
            else
            {
                target[key] = Copy(value);
            }
        }
    }

    private static object Copy(object value) => value switch
    {
        Dictionary<string, object> map => map.ToDictionary(e => e.Key, e => Copy(e.Value)),
        List<object> list => list.Select(Copy).ToList(),
        _ => value,
    };

    /// <summary>Levenshtein distance.</summary>
    private static int Distance(string a, string b)
    {
        var row = Enumerable.Range(0, b.Length + 1).ToArray();
        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                (diagonal, row[j]) = (row[j], Math.Min(Math.Min(row[j], row[j - 1]) + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)));
            }
        }

        return row[b.Length];
    }
}
