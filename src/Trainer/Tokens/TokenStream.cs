using System.Text;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// Decodes ids one at a time: a character comes out once all its bytes have arrived. The pieces, with <see cref="Flush"/> at the end,
/// are exactly what <see cref="Tokenizer.Decode"/> gives for all ids at once.
/// </summary>
public sealed class TokenStream
{
    private readonly Tokenizer _tokenizer;
    private readonly bool _skipSpecial;
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();

    /// <summary>A stream of one text.</summary>
    public TokenStream(Tokenizer tokenizer, bool skipSpecial = false)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        (_tokenizer, _skipSpecial) = (tokenizer, skipSpecial);
    }

    /// <summary>The characters that <paramref name="id"/> completes; often none.</summary>
    public string Append(int id) => Convert(_tokenizer.BytesOf(id, _skipSpecial), flush: false);

    /// <summary>What is left at the end: U+FFFD for an unfinished character, else nothing. The stream can then be used again.</summary>
    public string Flush() => Convert(default, flush: true);

    private string Convert(ReadOnlySpan<byte> bytes, bool flush)
    {
        var chars = bytes.Length <= 250 ? stackalloc char[256] : new char[bytes.Length + 6];   // at most one per byte, and what was pending
        return chars[.._decoder.GetChars(bytes, chars, flush)].ToString();
    }
}
