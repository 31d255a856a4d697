using System.Text.Json;

namespace Z1Coder.Trainer.Data;

/// <summary>Which keys of a record hold what. A map either names <see cref="Messages"/>, or <see cref="Prompt"/> and
/// <see cref="Response"/>.</summary>
/// <param name="Prompt">Key of the question or instruction; a string.</param>
/// <param name="Response">Key of the answer; a string.</param>
/// <param name="Input">Key of an input kept apart from the instruction; may be absent or null in a record.</param>
/// <param name="Messages">Key of a list of turns with role and content (or from and value).</param>
/// <param name="Id">Key of the record's name, a string or number; may be absent in a record.</param>
public sealed record FieldMap(string? Prompt = null, string? Response = null, string? Input = null, string? Messages = null,
    string? Id = null)
{
    // in the order in which they are tried: a file of the stage 1 run has instruction, input, gpt4o_output and output
    private static readonly (string Prompt, string Response)[] s_known =
    [
        ("question", "response"), ("question", "answer"), ("instruction", "output"), ("instruction", "response"),
        ("prompt", "completion"), ("prompt", "response"), ("problem", "solution"),
    ];

    /// <summary>Reads "prompt=question,response=answer" (also input=, messages=, id=).</summary>
    /// <param name="text">the pairs</param>
    /// <param name="needsResponse">false where records are problems, whose response may be absent</param>
    public static FieldMap Parse(string text, bool needsResponse = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        var map = new FieldMap();
        foreach (var part in text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = part.IndexOf('=');
            var (name, key) = equals < 0 ? (part, "") : (part[..equals].TrimEnd(), part[(equals + 1)..].TrimStart());
            map = (name, key) switch
            {
                (_, "") => throw new InvalidInputException(
                    $"field map: '{part}' names no key; write for example prompt=question,response=answer"),
                ("prompt", _) => map with { Prompt = key },
                ("response", _) => map with { Response = key },
                ("input", _) => map with { Input = key },
                ("messages", _) => map with { Messages = key },
                ("id", _) => map with { Id = key },
                _ => throw new InvalidInputException($"field map: '{name}' is not one of prompt, response, input, messages, id"),
            };
        }

        map.Validate(needsResponse);
        return map;
    }

    /// <summary>Throws unless the map names either messages, or both prompt and response (the prompt alone where no response is
    /// needed).</summary>
    public void Validate(bool needsResponse = true)
    {
        var plain = Prompt is not null && (Response is not null || !needsResponse) && Messages is null;
        var chat = Messages is not null && Prompt is null && Response is null && Input is null;
        if (!plain && !chat)
        {
            throw new InvalidInputException("field map: name either messages, or both prompt and response (and input, where there is one)");
        }
    }

    /// <summary>The map that fits the keys of this record, or null.</summary>
    internal static FieldMap? Detect(JsonElement record, bool needsResponse)
    {
        var id = Has(record, "id") ? "id" : Has(record, "task_id") ? "task_id" : null;
        foreach (var key in (ReadOnlySpan<string>)["messages", "conversations"])
        {
            if (record.TryGetProperty(key, out var turns) && turns.ValueKind == JsonValueKind.Array)
            {
                return new FieldMap(Messages: key, Id: id);
            }
        }

        foreach (var (prompt, response) in s_known)
        {
            if (Has(record, prompt) && Has(record, response))
            {
                return new FieldMap(prompt, response, InputOf(prompt), Id: id);
            }
        }

        return needsResponse ? null
            : s_known.Select(k => k.Prompt).FirstOrDefault(prompt => Has(record, prompt)) is { } only
                ? new FieldMap(only, Input: InputOf(only), Id: id) : null;
    }

    private static string? InputOf(string prompt) => prompt == "instruction" ? "input" : null;

    private static bool Has(JsonElement record, string key) => record.TryGetProperty(key, out _);
}
