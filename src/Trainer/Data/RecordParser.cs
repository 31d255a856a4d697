using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace Z1Coder.Trainer.Data;

/// <summary>One JSON object to one record, by a field map.</summary>
internal static class RecordParser
{
    private const int KeysNamed = 24;

    /// <summary>
    /// Reads a record. <paramref name="map"/> is found out at the first object when it is null; keys that fit no map are an error of the
    /// file, not of the line, and throw.
    /// </summary>
    /// <returns>False when the item is broken; <paramref name="error"/> then says what is wrong and what would be right.</returns>
    public static bool TryParse(
        JsonItems source, ReadOnlyMemory<byte> item, string fileName, bool needsResponse, ref FieldMap? map,
        [NotNullWhen(true)] out SftRecord? record, [NotNullWhen(false)] out string? error)
    {
        record = null;
        if (!Utf8.IsValid(item.Span))
        {
            error = $"not valid UTF-8 at byte {ValidPrefix(item.Span)}; save the file as UTF-8";
            return false;
        }

        try
        {
            using var document = JsonDocument.Parse(item);
            var root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object)
            {
                error = $"expected a JSON object, found {Kind(root)}";
                return false;
            }

            map ??= FieldMap.Detect(root, needsResponse) ?? throw new InvalidInputException(
                $"{source.Place}: no known fields among the keys {Keys(root)}; name them, for example prompt=question,response=answer");
            var id = OwnId(root, map.Id) ?? (source.IsArray ? $"{fileName}[{source.Index}]" : $"{fileName}:{source.Line}");
            return map.Messages is { } key ? TryChat(root, key, id, out record, out error) : TryPlain(root, map, id, out record, out error);
        }
        catch (JsonException e)
        {
            error = $"not valid JSON at byte {e.BytePositionInLine}, {JsonItems.Reason(e)}; each line must hold one whole JSON object";
            return false;
        }
        catch (InvalidOperationException)
        {
            error = "a string holds half of a surrogate pair (\\ud800 to \\udfff alone), which is no character; escape both halves or neither";
            return false;
        }
    }

    private static bool TryPlain(JsonElement root, FieldMap map, string id, out SftRecord? record, [NotNullWhen(false)] out string? error)
    {
        (record, var response) = (null, "");
        if (!TryText(root, map.Prompt!, required: true, out var prompt, out error)
            || (map.Response is not null && !TryText(root, map.Response, required: true, out response, out error)))
        {
            return false;
        }

        var input = "";
        if (map.Input is not null && !TryText(root, map.Input, required: false, out input, out error))
        {
            return false;
        }

        record = new SftRecord(id, prompt, input, response);
        return true;
    }

    private static bool TryText(JsonElement root, string key, bool required, out string text, [NotNullWhen(false)] out string? error)
    {
        text = "";
        error = null;
        if (!root.TryGetProperty(key, out var value))
        {
            error = required ? $"no field '{key}' among the keys {Keys(root)}" : null;
            return !required;
        }

        if (value.ValueKind == JsonValueKind.String)
        {
            text = value.GetString()!;
            return true;
        }

        if (value.ValueKind == JsonValueKind.Null && !required)
        {
            return true;
        }

        error = $"field '{key}' is {Kind(value)}, expected a string";
        return false;
    }

    private static bool TryChat(JsonElement root, string key, string id, out SftRecord? record, [NotNullWhen(false)] out string? error)
    {
        record = null;
        if (!root.TryGetProperty(key, out var list))
        {
            error = $"no field '{key}' among the keys {Keys(root)}";
            return false;
        }

        if (list.ValueKind != JsonValueKind.Array)
        {
            error = $"field '{key}' is {Kind(list)}, expected a list of turns";
            return false;
        }

        var messages = new List<ChatMessage>(list.GetArrayLength());
        foreach (var turn in list.EnumerateArray())
        {
            if (!TryTurn(turn, out var message, out var wrong))
            {
                error = $"field '{key}', turn {messages.Count}: {wrong}";
                return false;
            }

            messages.Add(message);
        }

        record = SftRecord.Chat(id, messages);
        error = null;
        return true;
    }

    private static bool TryTurn(JsonElement turn, [NotNullWhen(true)] out ChatMessage? message, [NotNullWhen(false)] out string? error)
    {
        message = null;
        if (turn.ValueKind != JsonValueKind.Object)
        {
            error = $"{Kind(turn)} where an object with role and content is expected";
            return false;
        }

        if (!turn.TryGetProperty("role", out var role) && !turn.TryGetProperty("from", out role))
        {
            error = $"no field 'role' among the keys {Keys(turn)}";
            return false;
        }

        var name = role.ValueKind != JsonValueKind.String ? null : role.GetString() switch
        {
            "system" or "developer" => "system",
            "user" or "human" => "user",
            "assistant" or "gpt" => "assistant",
            "tool" or "observation" => "tool",
            _ => null,
        };
        if (name is null)
        {
            error = $"role {role.GetRawText()} is not one of system, user, assistant, tool";
            return false;
        }

        if (!turn.TryGetProperty("content", out var content) && !turn.TryGetProperty("value", out content))
        {
            error = $"no field 'content' among the keys {Keys(turn)}";
            return false;
        }

        var text = new StringBuilder();
        if (turn.TryGetProperty("reasoning_content", out var reasoning) && reasoning.ValueKind == JsonValueKind.String)
        {
            text.Append(Reasoning(reasoning.GetString()!));
        }

        if (!TryContent(content, text, out error))
        {
            return false;
        }

        message = new ChatMessage(name, text.ToString());
        return true;
    }

    private static bool TryContent(JsonElement content, StringBuilder text, [NotNullWhen(false)] out string? error)
    {
        error = null;
        if (content.ValueKind == JsonValueKind.String)
        {
            text.Append(content.GetString());
            return true;
        }

        if (content.ValueKind != JsonValueKind.Array)
        {
            error = $"content is {Kind(content)}, expected a string or a list of parts";
            return false;
        }

        foreach (var part in content.EnumerateArray())
        {
            if (part.ValueKind == JsonValueKind.String)
            {
                text.Append(part.GetString());
                continue;
            }

            if (part.ValueKind != JsonValueKind.Object || !part.TryGetProperty("type", out var type) || type.ValueKind != JsonValueKind.String)
            {
                error = "a content part is not an object with a type and a text";
                return false;
            }

            var kind = type.GetString()!;
            if (!(part.TryGetProperty("text", out var value) || part.TryGetProperty("value", out value) || part.TryGetProperty(kind, out value))
                || value.ValueKind != JsonValueKind.String)
            {
                error = $"a content part of type '{kind}' has no text; only text, reasoning and tool_call can be trained on";
                return false;
            }

            switch (kind)
            {
                case "text":
                    text.Append(value.GetString());
                    break;
                case "reasoning" or "thinking":
                    text.Append(Reasoning(value.GetString()!));
                    break;
                case "tool_call":
                    text.Append(text.Length == 0 || text[^1] == '\n' ? "" : "\n").Append("<tool_call>\n").Append(value.GetString()).Append("\n</tool_call>");
                    break;
                default:
                    error = $"a content part has the type '{kind}'; only text, reasoning and tool_call can be trained on";
                    return false;
            }
        }

        return true;
    }

    /// <summary>Reasoning that stands apart from its answer, as it stands before it in one text.</summary>
    internal static string Reasoning(string reasoning) => $"<think>\n{reasoning.Trim('\n')}\n</think>\n\n";

    private static string? OwnId(JsonElement root, string? key) =>
        key is null || !root.TryGetProperty(key, out var id) ? null
        : id.ValueKind == JsonValueKind.String ? id.GetString()
        : id.ValueKind == JsonValueKind.Number ? id.GetRawText()
        : null;

    private static string Keys(JsonElement record)
    {
        var keys = record.EnumerateObject().Select(property => property.Name).ToList();
        return keys.Count == 0 ? "(none)"
            : string.Join(", ", keys.Take(KeysNamed)) + (keys.Count > KeysNamed ? $" and {keys.Count - KeysNamed} more" : "");
    }

    private static string Kind(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.Null => "null",
        _ => "true or false",
    };

    private static int ValidPrefix(ReadOnlySpan<byte> bytes)
    {
        var valid = 0;
        while (Rune.DecodeFromUtf8(bytes[valid..], out _, out var consumed) == System.Buffers.OperationStatus.Done)
        {
            valid += consumed;
        }

        return valid;
    }
}
