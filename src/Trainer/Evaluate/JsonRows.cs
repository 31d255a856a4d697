using System.IO.Compression;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// The objects of a .jsonl file, of a .json array, or of a .json object of objects, plain or .gz, each with the words that say where it stands.
/// Infinity, which Python writes as a bare word, is read as the number 1e999: Python reads that as infinity again.
/// </summary>
internal static class JsonRows
{
    /// <summary>Reads them one by one.</summary>
    /// <param name="path">The file.</param>
    /// <param name="growing">A line at the end without its line feed counts only when it is whole: whoever writes the file may have been killed.</param>
    internal static IEnumerable<(string Where, JsonElement Row)> Read(string path, bool growing = false) => ReadNamed(path, growing).Select(r => (r.Where, r.Row));

    /// <summary>As the other, each with its name in an object of objects.</summary>
    internal static IEnumerable<(string Where, string? Name, JsonElement Row)> ReadNamed(string path, bool growing = false)
    {
        using var reader = Open(path);
        var cut = growing && !EndsInLineFeed(path);
        if (path.EndsWith(".json", StringComparison.OrdinalIgnoreCase) || path.EndsWith(".json.gz", StringComparison.OrdinalIgnoreCase))
        {
            foreach (var row in Whole(path, All(path, reader)))
            {
                yield return row;
            }

            yield break;
        }

        var number = 0;
        for (var line = Next(path, reader); line is not null; line = Next(path, reader))
        {
            number++;
            line = number == 1 ? line.TrimStart('\uFEFF') : line;
            if (string.IsNullOrWhiteSpace(line))
            {
                continue;
            }

            if (line.TrimStart()[0] == '[')
            {
                using var whole = Parse(line + "\n" + reader.ReadToEnd(), path, "is not a JSON array");
                var index = 0;
                foreach (var element in whole.RootElement.EnumerateArray())
                {
                    yield return (Object($"{path}: element {index++}", element), null, element);
                }

                yield break;
            }

            JsonDocument document;
            try
            {
                document = Parse(line, $"{path}:{number}", "is not a JSON object on one line");
            }
            catch (InvalidInputException) when (cut && reader.Peek() < 0)
            {
                yield break;
            }

            using (document)
            {
                yield return (Object($"{path}:{number}", document.RootElement), null, document.RootElement);
            }
        }
    }

    /// <summary>A string field; null when it is absent or null and not <paramref name="required"/>.</summary>
    internal static string? Text(string where, JsonElement row, string field, bool required)
    {
        if (!row.TryGetProperty(field, out var value) || value.ValueKind == JsonValueKind.Null)
        {
            return required ? throw new InvalidInputException($"{where}: the field \"{field}\" is missing; it must be a string.") : null;
        }

        if (value.ValueKind != JsonValueKind.String)
        {
            throw new InvalidInputException($"{where}: the field \"{field}\" is a {value.ValueKind}; it must be a string.");
        }

        return String(where, value, field);
    }

    /// <summary>The text of a string in a field.</summary>
    internal static string String(string where, JsonElement value, string field)
    {
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw new InvalidInputException($"{where}: the field \"{field}\" is not valid Unicode text.", e);
        }
    }

    // A .json file may still hold one object per line.
    private static IEnumerable<(string Where, string? Name, JsonElement Row)> Whole(string path, string text)
    {
        text = text.TrimStart('\uFEFF');
        var lines = text.Split('\n');
        if (text.TrimStart() is ['{', ..] && lines.Count(l => l.StartsWith('{')) > 1)
        {
            for (var i = 0; i < lines.Length; i++)
            {
                if (!string.IsNullOrWhiteSpace(lines[i]))
                {
                    using var row = Parse(lines[i], $"{path}:{i + 1}", "is not a JSON object on one line");
                    yield return (Object($"{path}:{i + 1}", row.RootElement), null, row.RootElement);
                }
            }

            yield break;
        }

        if (string.IsNullOrWhiteSpace(text))
        {
            yield break;
        }

        using var whole = Parse(text, path, "is not JSON");
        var root = whole.RootElement;
        if (root.ValueKind == JsonValueKind.Array)
        {
            var index = 0;
            foreach (var element in root.EnumerateArray())
            {
                yield return (Object($"{path}: element {index++}", element), null, element);
            }
        }
        else if (root.ValueKind == JsonValueKind.Object && root.EnumerateObject().Any() && root.EnumerateObject().All(p => p.Value.ValueKind == JsonValueKind.Object))
        {
            foreach (var property in root.EnumerateObject())
            {
                yield return ($"{path}: \"{property.Name}\"", property.Name, property.Value);
            }
        }
        else
        {
            yield return (Object(path, root), null, root);
        }
    }

    private static bool EndsInLineFeed(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        return file.Length == 0 || (file.Seek(-1, SeekOrigin.End) >= 0 && file.ReadByte() == '\n');
    }

    private static string All(string path, StreamReader reader)
    {
        try
        {
            return reader.ReadToEnd();
        }
        catch (Exception e) when (e is IOException or InvalidDataException)
        {
            throw new InvalidInputException($"{path} cannot be read: {e.Message}", e);
        }
    }

    private static string WithNumbers(string text)
    {
        if (!text.Contains("Infinity", StringComparison.Ordinal))
        {
            return text;
        }

        const string word = "Infinity";
        var result = new System.Text.StringBuilder(text.Length);
        var inside = false;
        for (var i = 0; i < text.Length; i++)
        {
            if (inside && text[i] == '\\' && i + 1 < text.Length)
            {
                result.Append(text[i++]);
            }
            else if (text[i] == '"')
            {
                inside = !inside;
            }
            else if (!inside && text[i] == 'I' && string.CompareOrdinal(text, i, word, 0, word.Length) == 0)
            {
                result.Append("1e999");
                i += word.Length - 1;
                continue;
            }

            result.Append(text[i]);
        }

        return result.ToString();
    }

    private static string Object(string where, JsonElement element) =>
        element.ValueKind == JsonValueKind.Object
            ? where
            : throw new InvalidInputException($"{where}: a {element.ValueKind} stands where an object {{...}} must be.");

    private static JsonDocument Parse(string text, string where, string what)
    {
        try
        {
            return JsonDocument.Parse(WithNumbers(text));
        }
        catch (JsonException e)
        {
            throw new InvalidInputException($"{where} {what}: {e.Message}", e);
        }
    }

    private static StreamReader Open(string path)
    {
        try
        {
            Stream file = File.OpenRead(path);
            return new StreamReader(path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? new GZipStream(file, CompressionMode.Decompress) : file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"{path} cannot be read: {e.Message}", e);
        }
    }

    private static string? Next(string path, StreamReader reader)
    {
        try
        {
            return reader.ReadLine();
        }
        catch (Exception e) when (e is IOException or InvalidDataException)
        {
            throw new InvalidInputException($"{path} cannot be read: {e.Message}", e);
        }
    }
}
