using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Serve;

/// <summary>JSON of a request to tokens and options. A field that asks for something the engine does not do is refused by name, never ignored.</summary>
/// <param name="model">whose tokenizer, template and defaults hold</param>
/// <param name="capacity">longest sequence, tokens</param>
/// <param name="maxChoices">largest n</param>
public sealed class ServeRequestReader(ServeModel model, int capacity, int maxChoices)
{
    private const int DefaultCompletionTokens = 16, MostStops = 4, MostPrompts = 256;

    private static readonly string[] s_common =
    [
        "model", "max_tokens", "temperature", "top_p", "top_k", "n", "seed", "stop", "stream", "stream_options",
        "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    ];

    /// <summary>Reads one request.</summary>
    /// <exception cref="ServeException">400, or 404 for another model; the field is named</exception>
    public ServeRequest Read(JsonElement root, bool isChat)
    {
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw Bad("the body must be a JSON object", null);
        }

        foreach (var field in root.EnumerateObject())
        {
            Known(field, isChat);
        }

        if (Get(root, "model") is not { ValueKind: JsonValueKind.String } name)
        {
            throw Bad("model must be a string", "model");
        }

        if (name.GetString() != model.Name)
        {
            throw NoModel(name.GetString()!);
        }

        var prompts = isChat ? [Conversation(root)] : Prompts(root);
        var longest = prompts.Max(p => p.Length);
        if (longest >= capacity)
        {
            throw new ServeException(400,
                $"the prompt has {longest} tokens and the context {capacity}: a prompt leaves room for at least one new token",
                isChat ? "messages" : "prompt", "context_length_exceeded");
        }

        var most = isChat && Get(root, "max_completion_tokens") is not null
            ? Integer(root, "max_completion_tokens", 1, int.MaxValue, 0)
            : Integer(root, "max_tokens", 1, int.MaxValue, isChat ? capacity : DefaultCompletionTokens);
        var sampling = new Sampling(
            (float)Number(root, "temperature", 0, 2, model.Sampling.Temperature),
            (float)Number(root, "top_p", 0, 1, model.Sampling.TopP),
            (int)Integer(root, "top_k", -1, int.MaxValue, model.Sampling.TopK),
            Get(root, "seed") is { } seed ? Seed(seed) : BinaryPrimitives.ReadUInt64LittleEndian(RandomNumberGenerator.GetBytes(8)));
        if (sampling.TopP == 0)
        {
            throw Bad("top_p must be above 0 and at most 1", "top_p");
        }

        var stream = Boolean(root, "stream");
        var usage = Get(root, "stream_options") is { } options && Usage(options, stream);
        return new ServeRequest(
            isChat, prompts, (int)Integer(root, "n", 1, maxChoices, 1),
            new GenerateOptions((int)Math.Min(most, capacity), model.EndTokens, Stops(root)),
            sampling with { TopK = Math.Max(0, sampling.TopK) }, stream, usage);
    }

    /// <summary>404: the model is not this server's.</summary>
    public ServeException NoModel(string name) =>
        new(404, $"the model '{name}' does not exist here; this server has '{model.Name}'", "model", "model_not_found");

    private static ServeException Bad(string message, string? param) => new(400, message, param);

    /// <summary>A field that is null counts as absent.</summary>
    private static JsonElement? Get(JsonElement root, string name) =>
        root.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;

    private static void Known(JsonProperty field, bool isChat)
    {
        var (name, value) = (field.Name, field.Value);
        if (value.ValueKind == JsonValueKind.Null || s_common.Contains(name)
            || (isChat ? name is "messages" or "max_completion_tokens" : name is "prompt"))
        {
            return;
        }

        var neutral = name switch
        {
            "presence_penalty" or "frequency_penalty" => value.ValueKind == JsonValueKind.Number && value.GetDouble() == 0,
            "logit_bias" => value.ValueKind == JsonValueKind.Object && !value.EnumerateObject().Any(),
            "logprobs" or "echo" => value.ValueKind == JsonValueKind.False,
            "tools" => value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 0,
            "tool_choice" => value.ValueKind == JsonValueKind.String && value.ValueEquals("none"),
            "response_format" => value.ValueKind == JsonValueKind.Object && value.TryGetProperty("type", out var type)
                && type.ValueKind == JsonValueKind.String && type.ValueEquals("text"),
            "best_of" => value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var best) && best == 1,
            "suffix" => value.ValueKind == JsonValueKind.String && value.ValueEquals(""),
            _ => false,
        };
        if (!neutral)
        {
            throw Bad($"{name} is not supported by this server", name);
        }
    }

    private static long Integer(JsonElement root, string name, long least, long most, long otherwise)
    {
        if (Get(root, name) is not { } value)
        {
            return otherwise;
        }

        return value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out var number) && number >= least && number <= most
            ? number
            : throw Bad(
                most == int.MaxValue ? $"{name} must be a whole number of at least {least}" : $"{name} must be a whole number from {least} to {most}",
                name);
    }

    private static double Number(JsonElement root, string name, double least, double most, double otherwise)
    {
        if (Get(root, name) is not { } value)
        {
            return otherwise;
        }

        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) && number >= least && number <= most
            ? number
            : throw Bad(string.Create(CultureInfo.InvariantCulture, $"{name} must be a number from {least} to {most}"), name);
    }

    private static bool Boolean(JsonElement root, string name) => Get(root, name)?.ValueKind switch
    {
        null or JsonValueKind.False => false,
        JsonValueKind.True => true,
        _ => throw Bad($"{name} must be true or false", name),
    };

    private static ulong Seed(JsonElement seed) => seed.ValueKind != JsonValueKind.Number ? throw Bad("seed must be a whole number", "seed")
        : seed.TryGetInt64(out var signed) ? (ulong)signed
        : seed.TryGetUInt64(out var number) ? number
        : throw Bad("seed must be a whole number of 64 bits", "seed");

    private static bool Usage(JsonElement options, bool stream)
    {
        const string Name = "stream_options";
        if (options.ValueKind != JsonValueKind.Object)
        {
            throw Bad($"{Name} must be an object", Name);
        }

        if (!stream)
        {
            throw Bad($"{Name} needs stream to be true", Name);
        }

        foreach (var option in options.EnumerateObject())
        {
            if (option.Name != "include_usage")
            {
                throw Bad($"{Name}.{option.Name} is not supported by this server", $"{Name}.{option.Name}");
            }
        }

        return Boolean(options, "include_usage");
    }

    private static string[] Stops(JsonElement root)
    {
        const string Name = "stop", Rule = "stop must be a text or up to 4 texts, none of them empty";
        if (Get(root, Name) is not { } stop)
        {
            return [];
        }

        var stops = stop.ValueKind switch
        {
            JsonValueKind.String => [stop.GetString()!],
            JsonValueKind.Array => [.. stop.EnumerateArray().Select(s => s.ValueKind == JsonValueKind.String ? s.GetString()! : throw Bad(Rule, Name))],
            _ => (string[])[""],
        };
        return stops.Length <= MostStops && Array.TrueForAll(stops, s => s.Length > 0) ? stops : throw Bad(Rule, Name);
    }

    private int[] Conversation(JsonElement root)
    {
        const string Name = "messages";
        if (model.Template is null)
        {
            throw new ServeException(400, $"the model '{model.Name}' has no chat template; /v1/completions takes plain text", Name, "no_chat_template");
        }

        if (Get(root, Name) is not { ValueKind: JsonValueKind.Array } list || list.GetArrayLength() == 0)
        {
            throw Bad("messages must be a list of at least one message", Name);
        }

        var messages = list.EnumerateArray().Select(Message).ToList();
        try
        {
            return Ids(model.Template.Render(messages, addGenerationPrompt: true), Name);
        }
        catch (InvalidInputException e)
        {
            throw Bad($"the chat template refuses the messages: {e.Message}", Name);
        }
    }

    private static ChatMessage Message(JsonElement message, int index)
    {
        var at = $"messages[{index}]";
        if (message.ValueKind != JsonValueKind.Object)
        {
            throw Bad($"{at} must be an object with role and content", at);
        }

        foreach (var field in message.EnumerateObject())
        {
            if (field.Name is not ("role" or "content" or "name") && field.Value.ValueKind != JsonValueKind.Null)
            {
                throw Bad($"{at}.{field.Name} is not supported by this server", $"{at}.{field.Name}");
            }
        }

        var role = Get(message, "role") is { ValueKind: JsonValueKind.String } r ? r.GetString() : null;
        if (role is not ("system" or "user" or "assistant"))
        {
            throw Bad($"{at}.role must be system, user or assistant", $"{at}.role");
        }

        return new ChatMessage(role, Get(message, "content") switch
        {
            { ValueKind: JsonValueKind.String } text => text.GetString()!,
            { ValueKind: JsonValueKind.Array } parts => string.Concat(parts.EnumerateArray().Select(p => Part(p, at))),
            _ => throw Bad($"{at}.content must be a text or a list of text parts", $"{at}.content"),
        });
    }

    private static string Part(JsonElement part, string at) =>
        part.ValueKind == JsonValueKind.Object && Get(part, "type") is { ValueKind: JsonValueKind.String } type && type.ValueEquals("text")
            && Get(part, "text") is { ValueKind: JsonValueKind.String } text
            ? text.GetString()!
            : throw Bad($"{at}.content holds a part that is no text; only {{\"type\": \"text\", \"text\": …}} is supported", $"{at}.content");

    private List<int[]> Prompts(JsonElement root)
    {
        const string Name = "prompt", Rule = "prompt must be a text, a list of texts, a list of token ids, or a list of such lists";
        if (Get(root, Name) is not { } prompt)
        {
            throw Bad(Rule, Name);
        }

        if (prompt.ValueKind == JsonValueKind.String)
        {
            return [Ids(prompt.GetString()!, Name)];
        }

        if (prompt.ValueKind != JsonValueKind.Array || prompt.GetArrayLength() == 0)
        {
            throw Bad(Rule, Name);
        }

        if (prompt[0].ValueKind == JsonValueKind.Number)
        {
            return [TokenIds(prompt)];
        }

        return prompt.GetArrayLength() > MostPrompts ? throw Bad($"prompt holds {prompt.GetArrayLength()} prompts; at most {MostPrompts} are taken", Name)
            : [.. prompt.EnumerateArray().Select(p => p.ValueKind switch
            {
                JsonValueKind.String => Ids(p.GetString()!, Name),
                JsonValueKind.Array when p.GetArrayLength() > 0 => TokenIds(p),
                _ => throw Bad(Rule, Name),
            })];
    }

    private int[] TokenIds(JsonElement list) =>
    [
        .. list.EnumerateArray().Select(e => e.ValueKind == JsonValueKind.Number && e.TryGetInt32(out var id) && id >= 0
            && id < model.Tokenizer.VocabularySize ? id
            : throw Bad($"prompt holds {e.GetRawText()}, which is no token id from 0 to {model.Tokenizer.VocabularySize - 1}", "prompt")),
    ];

    private int[] Ids(string text, string field) => model.Tokenizer.Encode(text) is { Length: > 0 } ids ? ids : throw Bad($"{field} is empty", field);
}
