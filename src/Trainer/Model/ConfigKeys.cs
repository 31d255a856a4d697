using System.Text.Json;
using System.Text.Unicode;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Model;

/// <summary>Typed access to the keys of a JSON object from outside; every refusal names file and key.</summary>
internal readonly struct ConfigKeys
{
    private const long LongestFile = 16 << 20;
    private const int LongestShown = 80;

    private static ReadOnlySpan<byte> ByteOrderMark => [0xEF, 0xBB, 0xBF];

    private readonly string _path, _prefix;
    private readonly JsonElement _object;

    /// <summary>The keys of <paramref name="root"/>, which must be an object.</summary>
    public ConfigKeys(string path, JsonElement root, string prefix = "")
    {
        (_path, _object, _prefix) = (path, root, prefix);
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw new InvalidInputException($"{path} is not a JSON object");
        }
    }

    /// <summary>Reads a small JSON file whole; no key may occur twice.</summary>
    public static JsonDocument Open(string path)
    {
        try
        {
            using var file = File.OpenRead(path);
            if (file.Length > LongestFile)
            {
                throw new InvalidInputException($"{path} is {file.Length} bytes long; a file of its kind has at most {LongestFile}");
            }

            var bytes = new byte[file.Length];
            file.ReadExactly(bytes);
            if (!Utf8.IsValid(bytes))
            {
                throw new InvalidInputException($"{path} is not valid UTF-8");
            }

            var start = bytes.AsSpan().StartsWith(ByteOrderMark) ? ByteOrderMark.Length : 0;
            return JsonDocument.Parse(bytes.AsMemory(start), new JsonDocumentOptions { AllowDuplicateProperties = false, MaxDepth = 32 });
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException) // the latter: an escape that is half a surrogate pair
        {
            throw new InvalidInputException($"{path} is not valid JSON: {OneLine(e.Message)}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            throw new InvalidInputException($"cannot read {path}: {e.Message}", e);
        }
    }

    /// <summary>The error for one key.</summary>
    public InvalidInputException Wrong(string key, string what) => new($"{_path}: {_prefix}{key} {what}");

    /// <summary>Whether the key is there, null or not.</summary>
    public bool Has(string key) => _object.TryGetProperty(key, out _);

    /// <summary>Whether the key is there and null.</summary>
    public bool IsNull(string key) => _object.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.Null;

    /// <summary>Whether the key says nothing.</summary>
    public bool IsNullOrAbsent(string key) => !Has(key) || IsNull(key);

    /// <summary>A string; null when absent or null.</summary>
    public string? Text(string key)
    {
        if (IsNullOrAbsent(key))
        {
            return null;
        }

        return TextOf(_object.GetProperty(key)) ?? throw Wrong(key, "is not a string");
    }

    /// <summary>A list of strings; null when absent or null.</summary>
    public List<string>? Texts(string key)
    {
        if (IsNullOrAbsent(key))
        {
            return null;
        }

        var value = _object.GetProperty(key);
        if (value.ValueKind != JsonValueKind.Array)
        {
            throw Wrong(key, "is not a list of strings");
        }

        var texts = new List<string>();
        foreach (var item in value.EnumerateArray())
        {
            texts.Add(TextOf(item) ?? throw Wrong(key, "is not a list of strings"));
        }

        return texts;
    }

    /// <summary>Every key of the object with its value, which must be a string.</summary>
    public Dictionary<string, string> AllTexts()
    {
        var texts = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var property in _object.EnumerateObject())
        {
            texts.Add(property.Name, WholeTextOf(property.Value) ?? throw Wrong(property.Name, "is not a string"));
        }

        return texts;
    }

    /// <summary>true or false; the fallback when absent or null.</summary>
    public bool Flag(string key, bool fallback) => !_object.TryGetProperty(key, out var value) ? fallback : value.ValueKind switch
    {
        JsonValueKind.Null => fallback,
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Wrong(key, $"is {Shown(value)}; it must be true or false"),
    };

    /// <summary>A whole number from 1 to 2^31 - 1; the fallback when absent, an error when there is none.</summary>
    public int Positive(string key, int? fallback = null) => Whole(key, 1, fallback);

    /// <summary>A whole number from 0 to 2^31 - 1.</summary>
    public int NotNegative(string key) => Whole(key, 0, null);

    /// <summary>A finite number above 0; the fallback when absent, an error when there is none.</summary>
    public double PositiveNumber(string key, double? fallback)
    {
        if (!_object.TryGetProperty(key, out var value))
        {
            return fallback ?? throw Wrong(key, "is missing");
        }

        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) && double.IsFinite(number) && number > 0
            ? number
            : throw Wrong(key, $"is {Shown(value)}; it must be a number above 0");
    }

    /// <summary>A finite number of 0 or more; the fallback when absent or null.</summary>
    public double NotNegativeNumber(string key, double fallback)
    {
        if (IsNullOrAbsent(key))
        {
            return fallback;
        }

        var value = _object.GetProperty(key);
        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) && double.IsFinite(number) && number >= 0
            ? number
            : throw Wrong(key, $"is {Shown(value)}; it must be a number of 0 or more");
    }

    /// <summary>One token id or a list of them; empty when absent or null.</summary>
    public List<int> TokenIds(string key)
    {
        var ids = new List<int>();
        if (!_object.TryGetProperty(key, out var value) || value.ValueKind == JsonValueKind.Null)
        {
            return ids;
        }

        if (value.ValueKind != JsonValueKind.Array)
        {
            ids.Add(Whole(key, value, 0));
            return ids;
        }

        foreach (var item in value.EnumerateArray())
        {
            ids.Add(Whole(key, item, 0));
        }

        return ids;
    }

    /// <summary>A nested object; null when absent or null.</summary>
    public ConfigKeys? Child(string key)
    {
        if (IsNullOrAbsent(key))
        {
            return null;
        }

        var value = _object.GetProperty(key);
        return value.ValueKind == JsonValueKind.Object
            ? new ConfigKeys(_path, value, $"{_prefix}{key}.")
            : throw Wrong(key, $"is {Shown(value)}; it must be an object or null");
    }

    private int Whole(string key, int least, int? fallback) => _object.TryGetProperty(key, out var value)
        ? Whole(key, value, least)
        : fallback ?? throw Wrong(key, "is missing");

    private int Whole(string key, JsonElement value, int least) =>
        value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) && number >= least
            ? number
            : throw Wrong(key, $"is {Shown(value)}; it must be a whole number from {least} to {int.MaxValue}");

    private static string? TextOf(JsonElement value) => WholeTextOf(value) is { } text ? OneLine(text) : null;

    private static string? WholeTextOf(JsonElement value)
    {
        try
        {
            return value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        }
        catch (InvalidOperationException)
        {
            return null; // an escape that is half a surrogate pair
        }
    }

    private static string Shown(JsonElement value) => OneLine(value.GetRawText());

    private static string OneLine(string text)
    {
        var cut = text.Length > LongestShown ? text[..LongestShown] + "…" : text;
        return string.Create(cut.Length, cut, (span, from) =>
        {
            for (var i = 0; i < span.Length; i++)
            {
                span[i] = char.IsControl(from[i]) ? ' ' : from[i];
            }
        });
    }
}
