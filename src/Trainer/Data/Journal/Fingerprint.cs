using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Z1Coder.Trainer.Data.Journal;

/// <summary>
/// What decides a record besides the item itself, as one JSON object. Every record carries it, and a file whose records carry another one
/// is not continued.
/// </summary>
public class Fingerprint
{
    /// <summary>Writes the object.</summary>
    /// <param name="fields">its properties, always in the same order</param>
    public Fingerprint(Action<Utf8JsonWriter> fields)
    {
        ArgumentNullException.ThrowIfNull(fields);
        var buffer = new ArrayBufferWriter<byte>(256);
        using (var json = new Utf8JsonWriter(buffer, Plain))
        {
            json.WriteStartObject();
            fields(json);
            json.WriteEndObject();
        }

        Json = buffer.WrittenSpan.ToArray();
    }

    /// <summary>The fingerprint as it stands in a record: one JSON object.</summary>
    public ReadOnlyMemory<byte> Json { get; }

    /// <summary>Text as it is, not as \u escapes: a record is read by people too.</summary>
    internal static JsonWriterOptions Plain { get; } = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>What differs in a record's fingerprint, for a person; null when nothing does.</summary>
    internal string? Difference(JsonElement other)
    {
        if (Json.Span.SequenceEqual(System.Text.Encoding.UTF8.GetBytes(other.GetRawText())))
        {
            return null;
        }

        using var own = JsonDocument.Parse(Json);
        var before = other.ValueKind == JsonValueKind.Object
            ? other.EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetRawText()) : [];
        var now = own.RootElement.EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetRawText());
        foreach (var key in now.Keys.Union(before.Keys))
        {
            var (was, isNow) = (before.GetValueOrDefault(key), now.GetValueOrDefault(key));
            if (was != isNow)
            {
                return $"{key} was {was ?? "absent"} and is {isNow ?? "absent"}";
            }
        }

        return "the order of its keys";
    }
}
