using System.Text;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// Byte-level byte-pair encoding as a Hugging Face tokenizer.json describes it: added tokens are split out, the rest is normalised (NFC),
/// cut into words by the Qwen2 or GPT-2 rule and merged by rank. Safe to use from several threads.
/// </summary>
public sealed class Tokenizer
{
    /// <summary>Ids from here up are refused: tables are indexed by id.</summary>
    internal const int MaximumId = 1 << 22;

    private readonly string?[] _tokens;
    private readonly Dictionary<string, int> _ids;
    private readonly bool[] _special;
    private readonly byte[] _bytes;                           // what every id decodes to, end to end
    private readonly int[] _offsets;
    private readonly int[] _byteIds;
    private readonly BpeMerges _table;
    private readonly TokenizerMatcher _raw;
    private readonly TokenizerMatcher _normalized;
    private readonly BpeEncoder?[] _idle = new BpeEncoder?[Math.Max(8, 2 * Environment.ProcessorCount)];

    /// <summary>A tokenizer from checked parts; <see cref="TokenizerReader"/> and <see cref="TokenizerTrainer"/> make them.</summary>
    internal Tokenizer(TokenizerParts parts)
    {
        Parts = parts;
        var size = Math.Max(parts.Vocabulary.Values.Max(), parts.Added.Select(a => a.Id).DefaultIfEmpty(-1).Max()) + 1;
        _tokens = new string?[size];
        _special = new bool[size];
        _ids = new Dictionary<string, int>(parts.Vocabulary, StringComparer.Ordinal);
        foreach (var (token, id) in parts.Vocabulary)
        {
            _tokens[id] = token;
        }

        foreach (var added in parts.Added)
        {
            _tokens[added.Id] = added.Content;
            _ids[added.Content] = added.Id;
            _special[added.Id] = added.Special;
        }

        (_bytes, _offsets) = DecodeTable(_tokens);
        _byteIds = new int[256];
        for (var b = 0; b < 256; b++)
        {
            _byteIds[b] = parts.Vocabulary[BpeAlphabet.ToChar(b).ToString()];
        }

        _table = new BpeMerges(parts.Merges.Count);
        for (var rank = 0; rank < parts.Merges.Count; rank++)
        {
            var (left, right, product) = parts.Merges[rank];
            _table.TryAdd(left, right, rank, product);
        }

        _raw = new TokenizerMatcher(parts.Added.Where(a => !a.Normalized).Select(a => (a.Content, a.Id)));
        var normalization = new TokenizerNormalization();
        _normalized = new TokenizerMatcher(parts.Added.Where(a => a.Normalized)
            .Select(a => (parts.Compose ? normalization.Compose(a.Content).ToString() : a.Content, a.Id)));
    }

    /// <summary>The largest id plus one. A model's embedding may have more rows.</summary>
    public int VocabularySize => _tokens.Length;

    /// <summary>The added tokens, by id.</summary>
    public IReadOnlyList<TokenizerAddedToken> AddedTokens => Parts.Added;

    /// <summary>What the tokenizer was made from, for saving.</summary>
    internal TokenizerParts Parts { get; }

    /// <summary>Reads a tokenizer.json, a tokenizer.json.gz, or the one in a directory.</summary>
    /// <exception cref="InvalidInputException">The file is missing, damaged, or asks for something this class does not do.</exception>
    public static Tokenizer Load(string path) => new(TokenizerReader.Read(path));

    /// <summary>Writes a tokenizer.json that Hugging Face tokenizers reads; a directory gets it inside, ".gz" is compressed.</summary>
    public void Save(string path) => TokenizerWriter.Write(Parts, path);

    /// <summary>Appends the ids of <paramref name="text"/>. Lone surrogates count as U+FFFD.</summary>
    /// <param name="text">any text</param>
    /// <param name="ids">where the ids are appended</param>
    /// <param name="addedTokens">false: the texts of added tokens are ordinary text</param>
    public void Encode(ReadOnlySpan<char> text, List<int> ids, bool addedTokens = true)
    {
        ArgumentNullException.ThrowIfNull(ids);
        var encoder = Rent();
        Encode(encoder, text, ids, addedTokens);
        Return(encoder);
    }

    /// <summary>The ids of <paramref name="text"/>.</summary>
    public int[] Encode(string text, bool addedTokens = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        var encoder = Rent();
        encoder.Ids.Clear();
        Encode(encoder, text, encoder.Ids, addedTokens);
        var result = encoder.Ids.ToArray();
        Return(encoder);
        return result;
    }

    /// <summary>
    /// The text of <paramref name="ids"/>. Bytes that are not UTF-8 become U+FFFD, one per maximal subpart; ids without a token vanish.
    /// </summary>
    /// <param name="ids">any ids</param>
    /// <param name="skipSpecial">leave out special tokens</param>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecial = false)
    {
        var length = 0;
        foreach (var id in ids)
        {
            length += BytesOf(id, skipSpecial).Length;
        }

        var bytes = length <= 512 ? stackalloc byte[512] : new byte[length];
        var rest = bytes;
        foreach (var id in ids)
        {
            var token = BytesOf(id, skipSpecial);
            token.CopyTo(rest);
            rest = rest[token.Length..];
        }

        return Encoding.UTF8.GetString(bytes[..length]);
    }

    /// <summary>The id of a token as the file writes it (byte-level stand-ins: "Ġthe"), or null.</summary>
    public int? IdOf(string token) => _ids.TryGetValue(token, out var id) ? id : null;

    /// <summary>The token of an id as the file writes it, or null.</summary>
    public string? TokenOf(int id) => (uint)id < (uint)_tokens.Length ? _tokens[id] : null;

    /// <summary>True for added tokens that decoding can skip.</summary>
    public bool IsSpecial(int id) => (uint)id < (uint)_special.Length && _special[id];

    /// <summary>The bytes of one id; empty for unknown ids and skipped ones.</summary>
    internal ReadOnlySpan<byte> BytesOf(int id, bool skipSpecial) =>
        (uint)id >= (uint)_tokens.Length || (skipSpecial && _special[id]) ? default
            : _bytes.AsSpan(_offsets[id], _offsets[id + 1] - _offsets[id]);

    private void Encode(BpeEncoder encoder, ReadOnlySpan<char> text, List<int> ids, bool addedTokens)
    {
        if (!addedTokens || _raw.IsEmpty)
        {
            EncodeBetween(encoder, text, ids, addedTokens);
            return;
        }

        var from = 0;
        while (_raw.Find(text, from, out var start, out var end, out var id))
        {
            EncodeBetween(encoder, text[from..start], ids, addedTokens);
            ids.Add(id);
            from = end;
        }

        EncodeBetween(encoder, text[from..], ids, addedTokens);
    }

    private void EncodeBetween(BpeEncoder encoder, ReadOnlySpan<char> text, List<int> ids, bool addedTokens)
    {
        if (Parts.Compose && !TokenizerNormalization.IsCertainlyComposed(text))
        {
            text = encoder.Normalization.Compose(text);
        }

        if (addedTokens && !_normalized.IsEmpty)
        {
            var from = 0;
            while (_normalized.Find(text, from, out var start, out var end, out var id))
            {
                encoder.Encode(text[from..start], ids);
                ids.Add(id);
                from = end;
            }

            text = text[from..];
        }

        encoder.Encode(text, ids);
    }

    private BpeEncoder Rent()
    {
        var home = Environment.CurrentManagedThreadId;
        for (var i = 0; i < _idle.Length; i++)
        {
            ref var slot = ref _idle[(home + i) % _idle.Length];
            if (slot is not null && Interlocked.Exchange(ref slot, null) is { } encoder)
            {
                return encoder;
            }
        }

        return new BpeEncoder(_byteIds, _table, Parts.Rule);
    }

    private void Return(BpeEncoder encoder)
    {
        var home = Environment.CurrentManagedThreadId;
        for (var i = 0; i < _idle.Length; i++)
        {
            if (Interlocked.CompareExchange(ref _idle[(home + i) % _idle.Length], encoder, null) is null)
            {
                return;
            }
        }
    }

    private static (byte[] Bytes, int[] Offsets) DecodeTable(string?[] tokens)
    {
        var bytes = new List<byte>(tokens.Length * 8);
        var offsets = new int[tokens.Length + 1];
        for (var id = 0; id < tokens.Length; id++)
        {
            offsets[id] = bytes.Count;
            var token = tokens[id] ?? "";
            var start = bytes.Count;
            foreach (var c in token)
            {
                if (BpeAlphabet.ToByte(c) is var value and >= 0)
                {
                    bytes.Add((byte)value);
                    continue;
                }

                // one character outside the alphabet: the whole token stands for itself, as in the Hugging Face decoder
                bytes.RemoveRange(start, bytes.Count - start);
                bytes.AddRange(Encoding.UTF8.GetBytes(token));
                break;
            }
        }

        offsets[^1] = bytes.Count;
        return ([.. bytes], offsets);
    }
}
