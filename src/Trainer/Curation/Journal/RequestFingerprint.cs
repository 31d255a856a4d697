using System.Buffers;
using System.Text.Json;
using Z1Coder.Trainer.Curation.Teacher;

namespace Z1Coder.Trainer.Curation.Journal;

/// <summary>
/// What decides an answer besides the item itself: the verb, the model, the endpoint, each prompt file with its hash, the decoding
/// parameters, and options of the verb that change the request. Every record carries it, and a file whose records carry another one is not
/// continued.
/// </summary>
public sealed class RequestFingerprint
{
    /// <summary>The fingerprint of one run.</summary>
    /// <param name="verb">such as trajectories</param>
    /// <param name="model">the model's name on the server; empty for a verb that asks nothing</param>
    /// <param name="api">which endpoint</param>
    /// <param name="prompts">the files that the requests are made from</param>
    /// <param name="decoding">how the teacher decodes</param>
    /// <param name="options">options of the verb that change what is asked or kept, with their values</param>
    public RequestFingerprint(
        string verb, string model, TeacherApi api, IReadOnlyList<PromptFile> prompts, DecodingParameters decoding,
        params IReadOnlyList<(string Name, string Value)> options)
    {
        ArgumentNullException.ThrowIfNull(prompts);
        ArgumentNullException.ThrowIfNull(decoding);
        ArgumentNullException.ThrowIfNull(options);
        var buffer = new ArrayBufferWriter<byte>(256);
        using (var json = new Utf8JsonWriter(buffer, TeacherJson.Plain))
        {
            json.WriteStartObject();
            json.WriteString("verb", verb);
            json.WriteString("model", model);
            json.WriteString("api", api == TeacherApi.Chat ? "chat" : "completions");
            foreach (var prompt in prompts)
            {
                json.WriteString($"prompt {prompt.Name}", prompt.Sha256);
            }

            decoding.WriteTo(json);
            foreach (var (name, value) in options)
            {
                json.WriteString(name, value);
            }

            json.WriteEndObject();
        }

        Json = buffer.WrittenSpan.ToArray();
    }

    /// <summary>The fingerprint as it stands in a record: one JSON object.</summary>
    public ReadOnlyMemory<byte> Json { get; }

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
