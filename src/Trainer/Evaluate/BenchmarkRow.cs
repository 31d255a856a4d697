using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>The fields of one task, from one file or from several; an error names the file, the line and the field.</summary>
internal sealed partial class BenchmarkRow
{
    private readonly List<(string Where, JsonElement Fields)> _parts = [];

    private BenchmarkRow(string where, JsonElement fields) => _parts.Add((where, fields));

    /// <summary>Where it stands, in its first file.</summary>
    internal string Where => _parts[0].Where;

    /// <summary>The rows of one file after the other, each valid until the next is asked for.</summary>
    internal static IEnumerable<BenchmarkRow> Read(IReadOnlyList<string> paths) =>
        paths.SelectMany(path => JsonRows.Read(path)).Select(r => new BenchmarkRow(r.Where, r.Row));

    /// <summary>Tasks in the order of the first file. A later file adds fields; what it says about other tasks is left out.</summary>
    internal static List<BenchmarkRow> ReadJoined(IReadOnlyList<string> paths, Func<BenchmarkRow, string> id)
    {
        var rows = new List<BenchmarkRow>();
        var byId = new Dictionary<string, BenchmarkRow>(StringComparer.Ordinal);
        for (var file = 0; file < paths.Count; file++)
        {
            var seen = new Dictionary<string, string>(StringComparer.Ordinal);
            foreach (var (where, fields) in JsonRows.Read(paths[file]))
            {
                var row = new BenchmarkRow(where, fields.Clone());
                var name = id(row);
                if (!seen.TryAdd(name, where))
                {
                    throw row.Twice(name, seen[name]);
                }

                if (file == 0)
                {
                    rows.Add(row);
                    byId[name] = row;
                }
                else if (byId.TryGetValue(name, out var first))
                {
                    first._parts.Add(row._parts[0]);
                }
            }
        }

        return rows;
    }

    /// <summary>A wrong row.</summary>
    internal InvalidInputException Error(string what) => new($"{Where}: {what}.");

    /// <summary>A row of a task that has one.</summary>
    internal InvalidInputException Twice(string task, string first) => Error($"the task \"{task}\" stands twice, first in {first}; each must stand once");

    /// <summary>A wrong field.</summary>
    internal InvalidInputException Error(string field, string what) => new($"{WhereOf(field)}: the field \"{field}\" {what}.");

    internal bool Has(string field) => Find(field) is { ValueKind: not JsonValueKind.Null };

    /// <summary>A string that must be there.</summary>
    internal string Text(string field) => JsonRows.Text(WhereOf(field), Holder(field), field, required: true)!;

    /// <summary>The name of a Python function.</summary>
    internal string Identifier(string field) =>
        Text(field) is var name && PythonName().IsMatch(name) ? name : throw Error(field, $"is \"{name}\"; it must be the name of a Python function");

    /// <summary>The text of a string that stands somewhere in a field.</summary>
    internal string String(string field, JsonElement value) => JsonRows.String(WhereOf(field), value, field);

    /// <summary>A string, or null when it is absent.</summary>
    internal string? TextOrNull(string field) => JsonRows.Text(WhereOf(field), Holder(field), field, required: false);

    /// <summary>A string, or a whole number as text: ids are written both ways.</summary>
    internal string Id(string field) =>
        Find(field) is { ValueKind: JsonValueKind.Number } number && number.TryGetInt64(out var value) ? value.ToString(CultureInfo.InvariantCulture) : Text(field);

    /// <summary>A number, or <paramref name="otherwise"/> when it is absent.</summary>
    internal double Number(string field, double otherwise) => Find(field) switch
    {
        null or { ValueKind: JsonValueKind.Null } => otherwise,
        { ValueKind: JsonValueKind.Number } number => number.GetDouble(),
        { } other => throw Error(field, $"is a {other.ValueKind}; it must be a number"),
    };

    /// <summary>An array of strings; empty when it is absent and not <paramref name="required"/>.</summary>
    internal List<string> Texts(string field, bool required)
    {
        var list = new List<string>();
        foreach (var item in Array(field, required))
        {
            list.Add(item.ValueKind == JsonValueKind.String ? String(field, item) : throw Error(field, $"holds a {item.ValueKind}; it must hold strings"));
        }

        return list;
    }

    /// <summary>An array; empty when it is absent and not <paramref name="required"/>.</summary>
    internal List<JsonElement> Array(string field, bool required) => Find(field) switch
    {
        null or { ValueKind: JsonValueKind.Null } => required ? throw Error(field, "is missing; it must be an array") : [],
        { ValueKind: JsonValueKind.Array } array => [.. array.EnumerateArray()],
        { } other => throw Error(field, $"is a {other.ValueKind}; it must be an array"),
    };

    internal JsonElement? Find(string field)
    {
        foreach (var (_, fields) in _parts)
        {
            if (fields.TryGetProperty(field, out var value))
            {
                return value;
            }
        }

        return null;
    }

    private string WhereOf(string field) => _parts.Find(p => p.Fields.TryGetProperty(field, out _)).Where ?? Where;

    private JsonElement Holder(string field)
    {
        var part = _parts.Find(p => p.Fields.TryGetProperty(field, out _));
        return part.Where is null ? _parts[0].Fields : part.Fields;
    }

    [GeneratedRegex(@"^[\p{L}_][\p{L}\p{N}_]*\z", RegexOptions.CultureInvariant)]
    private static partial Regex PythonName();
}
