using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>The bodies that go to and come from an OpenAI-compatible server.</summary>
internal static class TeacherJson
{
    private const int Shown = 200;

    /// <summary>Text as it is, not as \u escapes: a record is read by people too.</summary>
    internal static JsonWriterOptions Plain { get; } = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    internal static byte[] Request(TeacherApi api, string model, IReadOnlyList<ChatMessage> messages, DecodingParameters decoding)
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        using (var json = new Utf8JsonWriter(buffer, Plain))
        {
            json.WriteStartObject();
            json.WriteString("model", model);
            if (api == TeacherApi.Completions)
            {
                json.WriteString("prompt", messages.Count == 1
                    ? messages[0].Content
                    : throw new InvalidInputException(
                        "--api completions: the prompt file has several turns; it must have one, or use --api chat"));
            }
            else
            {
                json.WriteStartArray("messages");
                foreach (var message in messages)
                {
                    json.WriteStartObject();
                    json.WriteString("role", message.Role);
                    json.WriteString("content", message.Content);
                    json.WriteEndObject();
                }

                json.WriteEndArray();
            }

            decoding.WriteTo(json);
            json.WriteEndObject();
        }

        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>Reads an answer of status 200.</summary>
    /// <returns>False when it is malformed; <paramref name="error"/> then says how, as the end of a sentence.</returns>
    internal static bool TryRead(
        TeacherApi api, ReadOnlyMemory<byte> body, [NotNullWhen(true)] out TeacherAnswer? answer, [NotNullWhen(false)] out string? error)
    {
        answer = null;
        if (LooksLikeHtml(body.Span))
        {
            error = "HTML instead of JSON; is the address right (it usually ends in /v1)?";
            return false;
        }

        try
        {
            using var document = JsonDocument.Parse(body);
            var root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("choices", out var choices)
                || choices.ValueKind != JsonValueKind.Array || choices.GetArrayLength() == 0
                    || choices[0].ValueKind != JsonValueKind.Object)
            {
                error = $"JSON without choices[0]: {OneLine(body.Span)}";
                return false;
            }

            return api == TeacherApi.Chat ? TryChat(root, choices[0], out answer, out error)
                : TryText(root, choices[0], out answer, out error);
        }
        catch (JsonException)
        {
            error = $"{body.Length} bytes that are no whole JSON value: {OneLine(body.Span)}";
            return false;
        }
        catch (InvalidOperationException)
        {
            error = "a text that holds half of a surrogate pair, which is no character";
            return false;
        }
    }

    /// <summary>What an error body says, in one line; with its machine-readable code where there is one.</summary>
    internal static (string Message, string Code) Error(ReadOnlyMemory<byte> body)
    {
        if (LooksLikeHtml(body.Span))
        {
            return ("an HTML page", "");
        }

        try
        {
            using var document = JsonDocument.Parse(body);
            var root = document.RootElement;
            if (root.ValueKind == JsonValueKind.Object && root.TryGetProperty("error", out var inner))
            {
                root = inner;
            }

            if (root.ValueKind == JsonValueKind.Object && Text(root, "message") is { } message)
            {
                return (OneLine(Encoding.UTF8.GetBytes(message)), Text(root, "code") ?? Text(root, "type") ?? "");
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // any text may come with an error; it is shown as it is
        }

        return (OneLine(body.Span), "");
    }

    internal static bool LooksLikeHtml(ReadOnlySpan<byte> body)
    {
        var start = body.IndexOfAnyExcept(" \t\r\n"u8);
        return start >= 0 && body[start] == (byte)'<';
    }

    private static bool TryChat(
        JsonElement root, JsonElement choice, [NotNullWhen(true)] out TeacherAnswer? answer, [NotNullWhen(false)] out string? error)
    {
        answer = null;
        if (!choice.TryGetProperty("message", out var message) || message.ValueKind != JsonValueKind.Object)
        {
            error = "JSON without choices[0].message";
            return false;
        }

        var reasoning = Text(message, "reasoning_content") ?? Text(message, "reasoning");
        var content = Text(message, "content");
        if (content is null && reasoning is null)
        {
            error = "JSON without the text choices[0].message.content";
            return false;
        }

        var text = string.IsNullOrEmpty(reasoning) ? content : RecordParser.Reasoning(reasoning) + content;
        answer = Answer(root, choice, text!);
        error = null;
        return true;
    }

    private static bool TryText(
        JsonElement root, JsonElement choice, [NotNullWhen(true)] out TeacherAnswer? answer, [NotNullWhen(false)] out string? error)
    {
        var text = Text(choice, "text");
        answer = text is null ? null : Answer(root, choice, text);
        error = text is null ? "JSON without the text choices[0].text" : null;
        return text is not null;
    }

    private static TeacherAnswer Answer(JsonElement root, JsonElement choice, string text)
    {
        var hasUsage = root.TryGetProperty("usage", out var usage) && usage.ValueKind == JsonValueKind.Object;
        return new TeacherAnswer(
            text, Text(choice, "finish_reason") ?? "", hasUsage ? Number(usage, "prompt_tokens") : 0, hasUsage
                ? Number(usage, "completion_tokens") : 0);
    }

    private static string? Text(JsonElement element, string key) =>
        element.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private static int Number(JsonElement element, string key) =>
        element.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number)
            && number > 0 ? number : 0;

    private static string OneLine(ReadOnlySpan<byte> text)
    {
        var words = Encoding.UTF8.GetString(text[..Math.Min(text.Length, 4 * Shown)])
            .Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        var line = string.Join(' ', words);
        return line.Length == 0 ? "an empty body" : line.Length <= Shown ? line : line[..Shown] + " …";
    }
}
