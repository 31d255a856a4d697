namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// GPT-2's printable stand-in for each byte, in which vocabularies of byte-level models are written: bytes that print as one visible
/// Latin-1 character stand for themselves, the others are moved to U+0100 and up in byte order.
/// </summary>
internal static class BpeAlphabet
{
    private static readonly char[] s_toChar = new char[256];
    private static readonly short[] s_toByte = new short[0x144];

    static BpeAlphabet()
    {
        Array.Fill(s_toByte, (short)-1);
        var moved = 0x100;
        for (var b = 0; b < 256; b++)
        {
            var visible = b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            s_toChar[b] = visible ? (char)b : (char)moved++;
            s_toByte[s_toChar[b]] = (short)b;
        }
    }

    /// <summary>The stand-in of a byte.</summary>
    public static char ToChar(int value) => s_toChar[value];

    /// <summary>The byte that <paramref name="c"/> stands for, or -1.</summary>
    public static int ToByte(char c) => c < s_toByte.Length ? s_toByte[c] : -1;

    /// <summary>The bytes in the order of their stand-ins: the order of the first 256 ids of GPT-2's and Qwen's vocabularies.</summary>
    public static IEnumerable<byte> InOrder() => Enumerable.Range(0, 256).Select(b => (byte)b).OrderBy(b => s_toChar[b]);
}
