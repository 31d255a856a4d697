using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Tokens;

/// <summary>A tokenizer of one's own for small models: merges learnt from text, ChatML tokens, a template without a system turn.</summary>
public static class ChatTokenizer
{
    /// <summary>Ends a document; also the padding token.</summary>
    public const string EndOfText = "<|endoftext|>";

    /// <summary>Opens a turn.</summary>
    public const string TurnStart = "<|im_start|>";

    /// <summary>Ends a turn, and so a generation.</summary>
    public const string TurnEnd = "<|im_end|>";

    private const string Template =
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    /// <summary>Learns <paramref name="vocabulary"/> tokens from the files and writes tokenizer.json and tokenizer_config.json.</summary>
    /// <exception cref="InvalidInputException">a file is missing or broken, or none holds any text</exception>
    public static Tokenizer Train(IEnumerable<string> files, int vocabulary, string directory)
    {
        var (all, empty) = (files.ToList(), true);
        var tokenizer = TokenizerTrainer.Train(all.SelectMany(Texts).Select(Seen), vocabulary, [EndOfText, TurnStart, TurnEnd]);
        if (empty)
        {
            throw new InvalidInputException($"{string.Join(", ", all)}: there is no text to learn a tokenizer from");
        }

        Directory.CreateDirectory(directory);
        tokenizer.Save(Path.Combine(directory, "tokenizer.json"));
        using var file = File.Create(Path.Combine(directory, "tokenizer_config.json"));
        using var json = new Utf8JsonWriter(file, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteString("chat_template", Template);
        json.WriteString("eos_token", TurnEnd);
        json.WriteString("pad_token", EndOfText);
        json.WriteString("tokenizer_class", "Qwen2Tokenizer");
        json.WriteEndObject();
        return tokenizer;

        string Seen(string text)
        {
            empty &= text.Length == 0;
            return text;
        }
    }

    /// <summary>The text of every record; a file that is not JSON is one text.</summary>
    private static IEnumerable<string> Texts(string file)
    {
        if (!File.Exists(file))
        {
            throw new InvalidInputException($"{file}: no such file");
        }

        var name = file.EndsWith(".gz", StringComparison.Ordinal) ? file[..^3] : file;
        if (!name.EndsWith(".json", StringComparison.Ordinal) && !name.EndsWith(".jsonl", StringComparison.Ordinal))
        {
            return [File.ReadAllText(file)];
        }

        var reader = new SftReader(fields: null, BrokenLinePolicy.Stop, new DataReport());
        return reader.Read(file).SelectMany(record => record.ToMessages().Select(m => m.Content));
    }
}
