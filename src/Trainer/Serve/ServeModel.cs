using System.Text.Json;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Serve;

/// <summary>What a server knows of its checkpoint besides the weights: name, text to ids, chat template, ends, and defaults of sampling.</summary>
/// <param name="Name">what requests call it</param>
/// <param name="Tokenizer">text to ids</param>
/// <param name="Template">null where the checkpoint has none: chat is then refused</param>
/// <param name="EndTokens">ids that end a completion</param>
/// <param name="Sampling">what holds where a request says nothing; its seed is not used</param>
public sealed record ServeModel(string Name, Tokenizer Tokenizer, ChatTemplate? Template, IReadOnlyList<int> EndTokens, Sampling Sampling)
{
    private const string GenerationFile = "generation_config.json";

    /// <summary>Reads everything but the weights.</summary>
    /// <param name="directory">config.json, tokenizer.json, and where there are: tokenizer_config.json, generation_config.json</param>
    /// <param name="name">null takes the directory's own</param>
    public static ServeModel Load(string directory, string? name)
    {
        var tokenizer = Tokenizer.Load(directory);
        var template = ChatTemplate.Find(directory);
        var ends = Qwen2Config.LoadEosTokenIds(directory).ToList();
        if (template is not null && tokenizer.IdOf(ChatTokenizer.TurnEnd) is { } turnEnd && !ends.Contains(turnEnd))
        {
            ends.Add(turnEnd);       // a fine-tuned base model keeps the eos of its base, and ends its turns with this one
        }

        name ??= Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory)));
        return new ServeModel(name, tokenizer, template, ends, Defaults(directory));
    }

    /// <summary>OpenAI's defaults (temperature 1, top_p 1, every token), or those of the model's generation_config.json.</summary>
    private static Sampling Defaults(string directory)
    {
        var sampling = new Sampling(1, 1, 0, 0);
        var path = Path.Combine(directory, GenerationFile);
        if (!File.Exists(path))
        {
            return sampling;
        }

        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            var root = json.RootElement;
            if (root.TryGetProperty("do_sample", out var draw) && draw.ValueKind == JsonValueKind.False)
            {
                return Sampling.Greedy;
            }

            sampling = new Sampling(
                root.TryGetProperty("temperature", out var t) && t.ValueKind == JsonValueKind.Number ? t.GetSingle() : 1,
                root.TryGetProperty("top_p", out var p) && p.ValueKind == JsonValueKind.Number ? p.GetSingle() : 1,
                root.TryGetProperty("top_k", out var k) && k.ValueKind == JsonValueKind.Number ? k.GetInt32() : 0,
                0);
        }
        catch (Exception e) when (e is JsonException or FormatException or InvalidOperationException)
        {
            throw new InvalidInputException($"{path} is not a generation config: {e.Message}", e);
        }

        return sampling is { Temperature: >= 0 and <= 100, TopP: > 0 and <= 1, TopK: >= 0 } ? sampling : throw new InvalidInputException(
            $"{path} asks for temperature {sampling.Temperature}, top_p {sampling.TopP}, top_k {sampling.TopK}; "
                + "they must be 0 to 100, above 0 to 1, and 0 or more");
    }
}
