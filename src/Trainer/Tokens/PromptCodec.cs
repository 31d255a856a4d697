using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Tokens;

/// <summary>A checkpoint's way from messages to tokens and back: its tokenizer, its own chat template, and the token that ends an
/// answer.</summary>
public sealed class PromptCodec
{
    private PromptCodec(string directory, Tokenizer tokenizer, ChatTemplate? template, int endToken) =>
        (Directory, Tokenizer, Template, EndToken) = (directory, tokenizer, template, endToken);

    /// <summary>Where it was read.</summary>
    public string Directory { get; }

    /// <summary>Text to ids and back.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>The checkpoint's chat template; null when alpaca prompts are used.</summary>
    public ChatTemplate? Template { get; }

    /// <summary>Ends a response: the end of a turn for chat, the end of text for alpaca.</summary>
    public int EndToken { get; }

    /// <summary>Reads tokenizer.json and, for chat, the template of a model directory.</summary>
    /// <param name="directory">a model or tokenizer directory</param>
    /// <param name="format">chat needs a template; a fine-tuned base model must stop at the end of its turn, whatever its eos was</param>
    public static PromptCodec Load(string directory, PromptFormat format)
    {
        var tokenizer = Tokenizer.Load(directory);
        if (format == PromptFormat.Alpaca)
        {
            var eos = EosToken(directory) ?? ChatTokenizer.EndOfText;
            return new PromptCodec(directory, tokenizer, null, Required(tokenizer, eos, directory));
        }

        var template = ChatTemplate.Load(directory);
        var end = tokenizer.IdOf(ChatTokenizer.TurnEnd) is not null ? ChatTokenizer.TurnEnd : EosToken(directory) ?? ChatTokenizer.TurnEnd;
        return new PromptCodec(directory, tokenizer, template, Required(tokenizer, end, directory));
    }

    /// <summary>The ids of a prompt: one user turn under the template with the assistant's turn opened, or the alpaca text.</summary>
    /// <param name="instruction">the user's turn</param>
    /// <param name="begun">text with which the answer begins</param>
    public int[] Prompt(string instruction, string begun = "") => Tokenizer.Encode((Template is null
        ? SampleTokenizer.Alpaca(instruction, "")
        : Template.Render([new ChatMessage("user", instruction)], addGenerationPrompt: true)) + begun);

    /// <summary>The template as a function, for <see cref="SampleTokenizer"/>.</summary>
    public string Render(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt) => Template!.Render(messages, addGenerationPrompt);

    private static int Required(Tokenizer tokenizer, string token, string directory) =>
        tokenizer.IdOf(token) ?? throw new InvalidInputException($"{directory}: the tokenizer has no token '{token}' to end a response with");

    private static string? EosToken(string directory)
    {
        var path = Path.Combine(directory, "tokenizer_config.json");
        if (!File.Exists(path))
        {
            return null;
        }

        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            return json.RootElement.TryGetProperty("eos_token", out var eos)
                ? eos.ValueKind == JsonValueKind.Object ? eos.GetProperty("content").GetString() : eos.GetString()
                : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw new InvalidInputException($"{path}: not a tokenizer config: {e.Message}", e);
        }
    }
}
