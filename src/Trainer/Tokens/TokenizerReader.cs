using System.IO.Compression;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// Reads a tokenizer.json and checks all of it. What this engine would treat otherwise than Hugging Face tokenizers is refused by name.
/// "truncation" and "padding" are ignored: they belong to the last caller's batches, not to the tokenizer.
/// </summary>
internal sealed class TokenizerReader
{
    /// <summary>The file's name in a checkpoint directory.</summary>
    public const string FileName = "tokenizer.json";

    private const int MaximumBytes = 256 << 20;

    private readonly string _file;

    private TokenizerReader(string file) => _file = file;

    /// <summary>The parts of the tokenizer at <paramref name="path"/> (a file, plain or ".gz", or a directory).</summary>
    public static TokenizerParts Read(string path)
    {
        if (Directory.Exists(path))
        {
            var plain = Path.Combine(path, FileName);
            path = File.Exists(plain) || !File.Exists(plain + ".gz") ? plain : plain + ".gz";
        }

        if (!File.Exists(path))
        {
            throw new InvalidInputException($"{path} does not exist; a tokenizer.json or a directory that holds one is needed.");
        }

        return Read(ReadJson(path), path);
    }

    /// <summary>The JSON of a file, unpacked where its name ends in ".gz".</summary>
    public static byte[] ReadJson(string path)
    {
        try
        {
            using var file = File.OpenRead(path);
            return path.EndsWith(".gz", StringComparison.Ordinal) ? Unzip(path, file) : ReadAll(path, file);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"{path} cannot be read: {error.Message}", error);
        }
    }

    /// <summary>The parts of the tokenizer in <paramref name="json"/>; <paramref name="name"/> is for messages.</summary>
    public static TokenizerParts Read(ReadOnlyMemory<byte> json, string name)
    {
        try
        {
            using var document = JsonDocument.Parse(json);
            return new TokenizerReader(name).Parse(document.RootElement);
        }
        catch (JsonException error)
        {
            throw new InvalidInputException(
                $"{name} is not valid JSON at line {error.LineNumber + 1}; the file may be cut off or damaged, copy it again.", error);
        }
        catch (InvalidOperationException error)
        {
            // a JSON string that holds half a surrogate pair has no text; System.Text.Json says so only when it is read
            throw new InvalidInputException($"{name} holds a string that is not valid Unicode; the file is damaged, copy it again.", error);
        }
    }

    private static byte[] ReadAll(string path, FileStream file)
    {
        if (file.Length > MaximumBytes)
        {
            throw new InvalidInputException($"{path} has {file.Length} bytes; a tokenizer.json has at most {MaximumBytes}.");
        }

        var bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        return bytes;
    }

    private static byte[] Unzip(string path, Stream file)
    {
        try
        {
            using var gzip = new GZipStream(file, CompressionMode.Decompress);
            var result = new MemoryStream();
            var buffer = new byte[1 << 16];
            for (int count; (count = gzip.Read(buffer)) > 0;)
            {
                result.Write(buffer, 0, count);
                if (result.Length > MaximumBytes)
                {
                    throw new InvalidInputException($"{path} unpacks to more than {MaximumBytes} bytes; a tokenizer.json is smaller.");
                }
            }

            return result.ToArray();
        }
        catch (InvalidDataException error)
        {
            throw new InvalidInputException($"{path} is not a valid gzip file; copy it again.", error);
        }
    }

    private TokenizerParts Parse(JsonElement root)
    {
        Expect(root, JsonValueKind.Object, "the file");
        var compose = ParseNormalizer(root);
        var rule = ParsePreTokenizer(root);
        ParsePostProcessor(root);
        ParseDecoder(root);
        var model = Member(root, "model", JsonValueKind.Object, "model");
        CheckModel(model);
        var vocabulary = ParseVocabulary(model);
        var merges = ParseMerges(model, vocabulary);
        return new TokenizerParts(vocabulary, merges, ParseAdded(root, vocabulary), rule, compose);
    }

    private bool ParseNormalizer(JsonElement root)
    {
        if (!Find(root, "normalizer", out var normalizer))
        {
            return false;
        }

        var type = TypeOf(normalizer, "normalizer");
        return type == "NFC" ? true : throw Unsupported("normalizer", type, "NFC or none");
    }

    private PreTokenizerRule ParsePreTokenizer(JsonElement root)
    {
        const string Key = "pre_tokenizer";
        const string Known = "the Qwen2 sequence of Split and ByteLevel, or ByteLevel with its own expression";
        if (!Find(root, Key, out var pre))
        {
            throw Wrong(Key, "is missing", Known + " is needed");
        }

        var type = TypeOf(pre, Key);
        if (type == "ByteLevel")
        {
            CheckFlag(pre, Key, "add_prefix_space", wanted: false, byDefault: true);
            CheckFlag(pre, Key, "use_regex", wanted: true, byDefault: true);
            return PreTokenizerRule.Gpt2;
        }

        if (type != "Sequence")
        {
            throw Unsupported(Key, type, Known);
        }

        var steps = Member(pre, "pretokenizers", JsonValueKind.Array, Key + ".pretokenizers");
        if (steps.GetArrayLength() != 2)
        {
            throw Wrong(Key + ".pretokenizers", $"has {steps.GetArrayLength()} steps", "supported is " + Known);
        }

        var (split, bytes) = (steps[0], steps[1]);
        const string SplitKey = Key + ".pretokenizers[0]", BytesKey = Key + ".pretokenizers[1]";
        var splitType = TypeOf(split, SplitKey);
        var bytesType = TypeOf(bytes, BytesKey);
        if (splitType != "Split" || bytesType != "ByteLevel")
        {
            throw Unsupported(Key, $"Sequence of {splitType} and {bytesType}", Known);
        }

        var pattern = Member(split, "pattern", JsonValueKind.Object, SplitKey + ".pattern");
        var regex = Member(pattern, "Regex", JsonValueKind.String, SplitKey + ".pattern.Regex").GetString()!;
        if (regex != PreTokenizer.Qwen2Pattern)
        {
            throw Unsupported(SplitKey + ".pattern.Regex", regex, PreTokenizer.Qwen2Pattern);
        }

        var behavior = Member(split, "behavior", JsonValueKind.String, SplitKey + ".behavior").GetString()!;
        if (behavior != "Isolated")
        {
            throw Unsupported(SplitKey + ".behavior", behavior, "Isolated");
        }

        CheckFlag(split, SplitKey, "invert", wanted: false, byDefault: false);
        CheckFlag(bytes, BytesKey, "add_prefix_space", wanted: false, byDefault: true);
        CheckFlag(bytes, BytesKey, "use_regex", wanted: false, byDefault: true);
        return PreTokenizerRule.Qwen2;
    }

    private void ParsePostProcessor(JsonElement root)
    {
        if (Find(root, "post_processor", out var post) && TypeOf(post, "post_processor") is var type && type != "ByteLevel")
        {
            throw Unsupported("post_processor", type, "ByteLevel or none");
        }
    }

    private void ParseDecoder(JsonElement root)
    {
        var type = Find(root, "decoder", out var decoder) ? TypeOf(decoder, "decoder") : "null";
        if (type != "ByteLevel")
        {
            throw Unsupported("decoder", type, "ByteLevel");
        }
    }

    private void CheckModel(JsonElement model)
    {
        var type = Find(model, "type", out var named) ? Expect(named, JsonValueKind.String, "model.type").GetString()! : "BPE";
        if (type != "BPE")
        {
            throw Unsupported("model.type", type, "BPE");
        }

        if (Find(model, "dropout", out var dropout) && !(dropout.ValueKind == JsonValueKind.Number && dropout.GetDouble() == 0))
        {
            throw Unsupported("model.dropout", dropout.GetRawText(), "null");
        }

        foreach (var affix in (ReadOnlySpan<string>)["continuing_subword_prefix", "end_of_word_suffix"])
        {
            if (Find(model, affix, out var value)
                && Expect(value, JsonValueKind.String, "model." + affix).GetString() is { Length: > 0 } text)
            {
                throw Unsupported("model." + affix, text, "null or \"\"");
            }
        }

        CheckFlag(model, "model", "byte_fallback", wanted: false, byDefault: false);
        CheckFlag(model, "model", "ignore_merges", wanted: false, byDefault: false);
    }

    private Dictionary<string, int> ParseVocabulary(JsonElement model)
    {
        var element = Member(model, "vocab", JsonValueKind.Object, "model.vocab");
        var vocabulary = new Dictionary<string, int>(element.GetPropertyCount(), StringComparer.Ordinal);
        var taken = new HashSet<int>();
        foreach (var entry in element.EnumerateObject())
        {
            var id = Id(entry.Value, $"model.vocab[{Quote(entry.Name)}]");
            if (!vocabulary.TryAdd(entry.Name, id))
            {
                throw Wrong($"model.vocab[{Quote(entry.Name)}]", "is there twice", "each token needs one entry");
            }

            if (!taken.Add(id))
            {
                throw Wrong($"model.vocab[{Quote(entry.Name)}]", $"has the id {id} of another token", "ids must differ");
            }
        }

        for (var b = 0; b < 256; b++)
        {
            if (!vocabulary.ContainsKey(BpeAlphabet.ToChar(b).ToString()))
            {
                throw Wrong("model.vocab", $"has no token {Quote(BpeAlphabet.ToChar(b).ToString())} for the byte {b}",
                    "a byte-level vocabulary holds all 256 bytes");
            }
        }

        return vocabulary;
    }

    private List<(int Left, int Right, int Product)> ParseMerges(JsonElement model, Dictionary<string, int> vocabulary)
    {
        var element = Member(model, "merges", JsonValueKind.Array, "model.merges");
        var merges = new List<(int, int, int)>(element.GetArrayLength());
        var known = new HashSet<(int, int)>(element.GetArrayLength());
        foreach (var entry in element.EnumerateArray())
        {
            var (left, right) = Pair(entry, merges.Count);
            var a = Known(left, merges.Count);
            var b = Known(right, merges.Count);
            var product = Known(left + right, merges.Count);
            if (!known.Add((a, b)))
            {
                throw Wrong($"model.merges[{merges.Count}]", $"repeats {Quote(left + " " + right)}", "each pair merges once");
            }

            merges.Add((a, b, product));
        }

        return merges;

        int Known(string token, int at) => vocabulary.TryGetValue(token, out var id) ? id
            : throw Wrong($"model.merges[{at}]", $"needs the token {Quote(token)}", "it must be in model.vocab");
    }

    private (string Left, string Right) Pair(JsonElement entry, int at)
    {
        if (entry.ValueKind == JsonValueKind.String)
        {
            var text = entry.GetString()!;
            var space = text.IndexOf(' ');
            if (space > 0 && space < text.Length - 1 && text.IndexOf(' ', space + 1) < 0)
            {
                return (text[..space], text[(space + 1)..]);
            }
        }
        else if (entry.ValueKind == JsonValueKind.Array && entry.GetArrayLength() == 2
            && entry[0].ValueKind == JsonValueKind.String && entry[1].ValueKind == JsonValueKind.String)
        {
            return (entry[0].GetString()!, entry[1].GetString()!);
        }

        throw Wrong($"model.merges[{at}]", "is " + Quote(entry.GetRawText()), "two tokens are needed: \"a b\" or [\"a\", \"b\"]");
    }

    private List<TokenizerAddedToken> ParseAdded(JsonElement root, Dictionary<string, int> vocabulary)
    {
        var added = new List<TokenizerAddedToken>();
        if (!Find(root, "added_tokens", out var element))
        {
            return added;
        }

        Expect(element, JsonValueKind.Array, "added_tokens");
        var names = vocabulary.ToDictionary(entry => entry.Value, entry => entry.Key);
        var contents = new HashSet<string>(StringComparer.Ordinal);
        foreach (var entry in element.EnumerateArray())
        {
            var key = $"added_tokens[{added.Count}]";
            Expect(entry, JsonValueKind.Object, key);
            var id = Id(Member(entry, "id", JsonValueKind.Number, key + ".id"), key + ".id");
            var content = Member(entry, "content", JsonValueKind.String, key + ".content").GetString()!;
            if (content.Length == 0)
            {
                throw Wrong(key + ".content", "is empty", "an added token needs text");
            }

            CheckFlag(entry, key, "single_word", wanted: false, byDefault: false);
            CheckFlag(entry, key, "lstrip", wanted: false, byDefault: false);
            CheckFlag(entry, key, "rstrip", wanted: false, byDefault: false);
            if (!contents.Add(content))
            {
                throw Wrong(key, $"repeats the text {Quote(content)}", "added tokens must differ");
            }

            if (vocabulary.TryGetValue(content, out var known) ? known != id : !names.TryAdd(id, content))
            {
                throw Wrong(key, $"gives {Quote(content)} the id {id}", known != 0 || vocabulary.ContainsKey(content)
                    ? $"model.vocab gives it the id {known}" : $"that is the id of {Quote(names[id])}");
            }

            var special = Flag(entry, key, "special", byDefault: false);
            added.Add(new TokenizerAddedToken(id, content, special, Flag(entry, key, "normalized", byDefault: !special)));
        }

        added.Sort((a, b) => a.Id.CompareTo(b.Id));
        return added;
    }

    private int Id(JsonElement element, string key)
    {
        if (element.ValueKind == JsonValueKind.Number && element.TryGetInt32(out var id) && id is >= 0 and < Tokenizer.MaximumId)
        {
            return id;
        }

        throw Wrong(key, "is " + Quote(element.GetRawText()), $"an id is a whole number from 0 to {Tokenizer.MaximumId - 1}");
    }

    private string TypeOf(JsonElement element, string key)
    {
        Expect(element, JsonValueKind.Object, key);
        return Member(element, "type", JsonValueKind.String, key + ".type").GetString()!;
    }

    private void CheckFlag(JsonElement element, string key, string name, bool wanted, bool byDefault)
    {
        var value = Flag(element, key, name, byDefault);
        if (value != wanted)
        {
            throw Unsupported($"{key}.{name}", value ? "true" : "false", wanted ? "true" : "false");
        }
    }

    private bool Flag(JsonElement element, string key, string name, bool byDefault)
    {
        if (!Find(element, name, out var value))
        {
            return byDefault;
        }

        return value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean()
            : throw Wrong($"{key}.{name}", "is " + Quote(value.GetRawText()), "true or false is needed");
    }

    /// <summary>False when the member is absent or null.</summary>
    private static bool Find(JsonElement element, string name, out JsonElement member) =>
        element.TryGetProperty(name, out member) && member.ValueKind != JsonValueKind.Null;

    private JsonElement Member(JsonElement element, string name, JsonValueKind kind, string key) =>
        Find(element, name, out var member) ? Expect(member, kind, key) : throw Wrong(key, "is missing", $"{Name(kind)} is needed");

    private JsonElement Expect(JsonElement element, JsonValueKind kind, string key) => element.ValueKind == kind ? element
        : throw Wrong(key, "is " + Name(element.ValueKind), $"{Name(kind)} is needed");

    private InvalidInputException Unsupported(string key, string value, string supported) =>
        new($"{_file}: {key} {Quote(value)} is not supported; supported: {supported}.");

    private InvalidInputException Wrong(string key, string what, string instead) => new($"{_file}: {key} {what}; {instead}.");

    private static string Quote(string text) => $"'{(text.Length <= 200 ? text : text[..200] + "…").ReplaceLineEndings(" ")}'";

    private static string Name(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.Null => "null",
        _ => "true or false",
    };
}
