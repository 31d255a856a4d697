using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using System.Text.Unicode;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// Text as LiveCodeBench packs its private tests: base64 of zlib of a Python pickle of one string. Of the pickle format (protocols 2 to 5) only what
/// such a file needs is read: a frame, a string, the instructions that remember it, the end. Anything else is refused, so nothing can be run by it.
/// </summary>
internal static class PickledText
{
    private const int MostBytes = 1 << 30;              // unpacked; a few kilobytes of zlib could otherwise fill the memory

    /// <summary>The text as UTF-8, with U+FFFD for what is none, out of what base64 held; throws <see cref="FormatException"/> with the reason.</summary>
    internal static ReadOnlyMemory<byte> Decode(byte[] zlib)
    {
        try
        {
            using var packed = new ZLibStream(new MemoryStream(zlib), CompressionMode.Decompress);
            using var plain = new MemoryStream();
            var buffer = new byte[1 << 16];
            for (int count; (count = packed.Read(buffer)) > 0;)
            {
                plain.Write(buffer, 0, count);
                if (plain.Length > MostBytes)
                {
                    throw new FormatException($"it unpacks to more than {MostBytes} bytes");
                }
            }

            return TextOf(plain.GetBuffer().AsMemory(0, (int)plain.Length));
        }
        catch (InvalidDataException e)
        {
            throw new FormatException("it is not compressed by zlib", e);
        }
    }

    private static ReadOnlyMemory<byte> TextOf(ReadOnlyMemory<byte> whole)
    {
        var pickle = whole.Span;
        ReadOnlyMemory<byte>? text = null;
        while (!pickle.IsEmpty)
        {
            var (code, size) = (pickle[0], 0L);
            pickle = pickle[1..];
            switch (code)
            {
                case 0x80 or (byte)'q':                 // PROTO, BINPUT: one byte follows
                    size = 1;
                    break;
                case 0x95:                              // FRAME: its length
                    size = 8;
                    break;
                case (byte)'r':                         // LONG_BINPUT
                    size = 4;
                    break;
                case 0x94:                              // MEMOIZE
                    break;
                case 0x8C or (byte)'X' or 0x8D when text is null:
                    var width = code == 0x8C ? 1 : code == 0x8D ? 8 : 4;
                    var length = width > pickle.Length ? -1
                        : width == 1 ? pickle[0] : width == 4 ? BinaryPrimitives.ReadUInt32LittleEndian(pickle) : BinaryPrimitives.ReadInt64LittleEndian(pickle);
                    if (length < 0 || length > pickle.Length - width)
                    {
                        throw new FormatException("its string is cut short");
                    }

                    text = whole.Slice(whole.Length - pickle.Length + width, (int)length);
                    size = width + length;
                    break;
                case (byte)'.' when text is not null && pickle.IsEmpty:
                    return Utf8.IsValid(text.Value.Span) ? text.Value : Encoding.UTF8.GetBytes(Encoding.UTF8.GetString(text.Value.Span));
                default:
                    throw new FormatException("it is not the pickle of one string");
            }

            if (size > pickle.Length)
            {
                break;
            }

            pickle = pickle[(int)size..];
        }

        throw new FormatException("it ends before its end mark");
    }
}
