using System.IO.Compression;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Z1Coder.Trainer.Tokens;

/// <summary>Writes a tokenizer.json that Hugging Face tokenizers reads (all versions: merges are written as "a b").</summary>
internal static class TokenizerWriter
{
    /// <summary>Writes beside <paramref name="path"/> first and renames, so that a reader never sees half a file.</summary>
    public static void Write(TokenizerParts parts, string path)
    {
        if (Directory.Exists(path))
        {
            path = Path.Combine(path, TokenizerReader.FileName);
        }

        var temporary = path + ".tmp";
        using (var file = File.Create(temporary))
        {
            if (path.EndsWith(".gz", StringComparison.Ordinal))
            {
                using var gzip = new GZipStream(file, CompressionLevel.Optimal);
                Write(parts, gzip);
            }
            else
            {
                Write(parts, file);
            }
        }

        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>The JSON itself.</summary>
    public static void Write(TokenizerParts parts, Stream stream)
    {
        using var json = new Utf8JsonWriter(
            stream, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, Indented = true, IndentSize = 1 });
        json.WriteStartObject();
        json.WriteString("version", "1.0");
        json.WriteNull("truncation");
        json.WriteNull("padding");
        WriteAdded(parts, json);
        if (parts.Compose)
        {
            json.WriteStartObject("normalizer");
            json.WriteString("type", "NFC");
            json.WriteEndObject();
        }
        else
        {
            json.WriteNull("normalizer");
        }

        WritePreTokenizer(parts.Rule, json);
        WriteByteLevel(json, "post_processor", useRegex: false);
        WriteByteLevel(json, "decoder", useRegex: false);
        WriteModel(parts, json);
        json.WriteEndObject();
    }

    private static void WriteAdded(TokenizerParts parts, Utf8JsonWriter json)
    {
        json.WriteStartArray("added_tokens");
        foreach (var added in parts.Added)
        {
            json.WriteStartObject();
            json.WriteNumber("id", added.Id);
            json.WriteString("content", added.Content);
            json.WriteBoolean("single_word", false);
            json.WriteBoolean("lstrip", false);
            json.WriteBoolean("rstrip", false);
            json.WriteBoolean("normalized", added.Normalized);
            json.WriteBoolean("special", added.Special);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WritePreTokenizer(PreTokenizerRule rule, Utf8JsonWriter json)
    {
        if (rule == PreTokenizerRule.Gpt2)
        {
            WriteByteLevel(json, "pre_tokenizer", useRegex: true);
            return;
        }

        json.WriteStartObject("pre_tokenizer");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("pretokenizers");
        json.WriteStartObject();
        json.WriteString("type", "Split");
        json.WriteStartObject("pattern");
        json.WriteString("Regex", PreTokenizer.Qwen2Pattern);
        json.WriteEndObject();
        json.WriteString("behavior", "Isolated");
        json.WriteBoolean("invert", false);
        json.WriteEndObject();
        WriteByteLevel(json, null, useRegex: false);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteByteLevel(Utf8JsonWriter json, string? key, bool useRegex)
    {
        if (key is null)
        {
            json.WriteStartObject();
        }
        else
        {
            json.WriteStartObject(key);
        }

        json.WriteString("type", "ByteLevel");
        json.WriteBoolean("add_prefix_space", false);
        json.WriteBoolean("trim_offsets", false);
        json.WriteBoolean("use_regex", useRegex);
        json.WriteEndObject();
    }

    private static void WriteModel(TokenizerParts parts, Utf8JsonWriter json)
    {
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteNull("dropout");
        json.WriteNull("unk_token");
        json.WriteString("continuing_subword_prefix", "");
        json.WriteString("end_of_word_suffix", "");
        json.WriteBoolean("fuse_unk", false);
        json.WriteBoolean("byte_fallback", false);
        json.WriteBoolean("ignore_merges", false);
        json.WriteStartObject("vocab");
        var tokens = new string[parts.Vocabulary.Values.Max() + 1];
        foreach (var (token, id) in parts.Vocabulary.OrderBy(entry => entry.Value))
        {
            tokens[id] = token;
            json.WriteNumber(token, id);
        }

        json.WriteEndObject();
        json.WriteStartArray("merges");
        foreach (var (left, right, _) in parts.Merges)
        {
            json.WriteStringValue(tokens[left] + " " + tokens[right]);
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }
}
