using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// A checkpoint's own chat template, executed: the subset of Jinja that models use, with the settings of transformers (trim_blocks,
/// lstrip_blocks, tojson that keeps non-ASCII and key order). What lies outside is refused when the template is parsed.
/// </summary>
public sealed class ChatTemplate
{
    private const int LongestSource = 1 << 20;

    private readonly string _name;
    private readonly List<JinjaStatement> _body;
    private readonly Dictionary<string, string> _tokens;

    private ChatTemplate(string source, string name, List<JinjaStatement> body, Dictionary<string, string> tokens)
    {
        (Source, _name, _body, _tokens) = (source, name, body, tokens);
        Sha256 = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(source)));
    }

    /// <summary>The template as written.</summary>
    public string Source { get; }

    /// <summary>SHA-256 of the source in UTF-8, lower-case hexadecimal: what a run records.</summary>
    public string Sha256 { get; }

    /// <summary>
    /// Reads chat_template.jinja, or else "chat_template" of tokenizer_config.json, from a checkpoint's directory. The special tokens that
    /// the configuration names (bos_token, eos_token, …) are variables of the template.
    /// </summary>
    public static ChatTemplate Load(string modelDirectory) => Find(modelDirectory) ?? throw new InvalidInputException(
        $"{modelDirectory} has no chat template; chat_template.jinja or \"chat_template\" in tokenizer_config.json is needed.");

    /// <summary>As <see cref="Load"/>; null where the checkpoint has no template.</summary>
    public static ChatTemplate? Find(string modelDirectory)
    {
        var jinja = Path.Combine(modelDirectory, "chat_template.jinja");
        var config = Path.Combine(modelDirectory, "tokenizer_config.json");
        try
        {
            var tokens = new Dictionary<string, string>(StringComparer.Ordinal);
            string? source = null;
            if (File.Exists(config))
            {
                using var document = JsonDocument.Parse(File.ReadAllBytes(config));
                source = ReadConfig(document.RootElement, config, tokens);
            }

            if (File.Exists(jinja))
            {
                return Parse(File.ReadAllText(jinja), jinja, tokens);
            }

            return source is null ? null : Parse(source, config + ": chat_template", tokens);
        }
        catch (JsonException error)
        {
            throw new InvalidInputException($"{config} is not valid JSON at line {error.LineNumber + 1}; copy the file again.", error);
        }
        catch (InvalidOperationException error)
        {
            throw new InvalidInputException($"{config} holds a string that is not valid Unicode; copy the file again.", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"The chat template in {modelDirectory} cannot be read: {error.Message}", error);
        }
    }

    /// <summary>Parses a template; <paramref name="name"/> is what messages call it.</summary>
    public static ChatTemplate Parse(string source, string name) => Parse(source, name, []);

    /// <summary>The text of a conversation.</summary>
    /// <param name="messages">the turns</param>
    /// <param name="addGenerationPrompt">end with the opening of the assistant's turn</param>
    /// <param name="tools">a list of function descriptions, or nothing</param>
    /// <param name="variables">more variables of the template, such as enable_thinking</param>
    public string Render(
        IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt, JsonElement? tools = null,
        IReadOnlyDictionary<string, JsonElement>? variables = null)
    {
        ArgumentNullException.ThrowIfNull(messages);
        var list = new List<object?>(messages.Count);
        foreach (var message in messages)
        {
            list.Add(new Dictionary<string, object?>(StringComparer.Ordinal) { ["role"] = message.Role, ["content"] = message.Content });
        }

        return Render(list, addGenerationPrompt, tools, variables);
    }

    /// <summary>The text of a conversation whose messages carry more than role and content (tool_calls, reasoning_content).</summary>
    /// <param name="messages">a JSON list of messages</param>
    /// <param name="addGenerationPrompt">end with the opening of the assistant's turn</param>
    /// <param name="tools">a list of function descriptions, or nothing</param>
    /// <param name="variables">more variables of the template, such as enable_thinking</param>
    public string Render(
        JsonElement messages, bool addGenerationPrompt, JsonElement? tools = null,
        IReadOnlyDictionary<string, JsonElement>? variables = null)
    {
        if (messages.ValueKind != JsonValueKind.Array)
        {
            throw new InvalidInputException($"The messages for {_name} are no JSON list; a list of {{\"role\", \"content\"}} is needed.");
        }

        return Render(JinjaValue.From(messages), addGenerationPrompt, tools, variables);
    }

    private static ChatTemplate Parse(string source, string name, Dictionary<string, string> tokens)
    {
        ArgumentNullException.ThrowIfNull(source);
        if (source.Length > LongestSource)
        {
            throw new InvalidInputException($"{name} has {source.Length} characters; a chat template has at most {LongestSource}.");
        }

        try
        {
            return new ChatTemplate(source, name, JinjaParser.Run(source), tokens);
        }
        catch (JinjaException error)
        {
            throw new InvalidInputException($"{name}, line {error.Line}: {error.Message}.", error);
        }
    }

    private string Render(
        object? messages, bool addGenerationPrompt, JsonElement? tools, IReadOnlyDictionary<string, JsonElement>? variables)
    {
        var run = new JinjaRun();
        foreach (var (name, token) in _tokens)
        {
            run.Root.Set(name, token);
        }

        run.Root.Set("messages", messages);
        run.Root.Set("add_generation_prompt", addGenerationPrompt);
        run.Root.Set("tools", tools is { } list ? JinjaValue.From(list) : null);
        run.Root.Set("documents", null);
        foreach (var (name, value) in variables ?? new Dictionary<string, JsonElement>())
        {
            run.Root.Set(name, JinjaValue.From(value));
        }

        var output = new StringBuilder();
        try
        {
            JinjaStatement.Execute(_body, run.Root, output);
            return output.ToString();
        }
        catch (JinjaException error)
        {
            throw new InvalidInputException($"{_name}, line {run.Line}: {error.Message}.", error);
        }
        catch (OutOfMemoryException error)
        {
            throw new InvalidInputException($"{_name}, line {run.Line}: the template asks for a text too long for memory.", error);
        }
    }

    private static string? ReadConfig(JsonElement root, string config, Dictionary<string, string> tokens)
    {
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw new InvalidInputException($"{config} is not a JSON object; a tokenizer configuration is needed.");
        }

        foreach (var member in root.EnumerateObject())
        {
            if (!member.Name.EndsWith("_token", StringComparison.Ordinal))
            {
                continue;
            }

            var value = member.Value.ValueKind == JsonValueKind.Object && member.Value.TryGetProperty("content", out var content)
                ? content : member.Value;
            if (value.ValueKind == JsonValueKind.String)
            {
                tokens[member.Name] = value.GetString()!;
            }
        }

        if (!root.TryGetProperty("chat_template", out var template) || template.ValueKind == JsonValueKind.Null)
        {
            return null;
        }

        if (template.ValueKind == JsonValueKind.Array)
        {
            foreach (var entry in template.EnumerateArray())
            {
                if (entry.ValueKind == JsonValueKind.Object && entry.TryGetProperty("name", out var name)
                    && name.ValueKind == JsonValueKind.String && name.GetString() == "default"
                    && entry.TryGetProperty("template", out var named))
                {
                    template = named;
                    break;
                }
            }
        }

        return template.ValueKind == JsonValueKind.String ? template.GetString()
            : throw new InvalidInputException($"{config}: chat_template is neither a text nor a list with a text named \"default\".");
    }
}
