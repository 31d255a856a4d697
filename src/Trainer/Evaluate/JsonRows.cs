using System.IO.Compression;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>The objects of a .jsonl file or of a .json array, plain or .gz, each with the words that say where it stands.</summary>
internal static class JsonRows
{
    internal static IEnumerable<(string Where, JsonElement Row)> Read(string path)
    {
        using var reader = Open(path);
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
                    yield return (Object($"{path}: element {index++}", element), element);
                }

                yield break;
            }

            using var document = Parse(line, $"{path}:{number}", "is not a JSON object on one line");
            yield return (Object($"{path}:{number}", document.RootElement), document.RootElement);
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

        try
        {
            return value.GetString();
        }
        catch (InvalidOperationException e)
        {
            throw new InvalidInputException($"{where}: the field \"{field}\" is not valid Unicode text.", e);
        }
    }

    private static string Object(string where, JsonElement element) =>
        element.ValueKind == JsonValueKind.Object
            ? where
            : throw new InvalidInputException($"{where}: a {element.ValueKind} stands where an object {{...}} must be.");

    private static JsonDocument Parse(string text, string where, string what)
    {
        try
        {
            return JsonDocument.Parse(text);
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
