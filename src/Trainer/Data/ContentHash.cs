using System.Buffers;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Z1Coder.Trainer.Data;

/// <summary>
/// 128 bits of SHA-256 over what a record says, not where it stood: equal for equal conversations whatever file, line or id they have, and
/// whether they were written as prompt and response or as messages.
/// </summary>
public static class ContentHash
{
    /// <summary>Over all turns.</summary>
    public static UInt128 Of(SftRecord record)
    {
        ArgumentNullException.ThrowIfNull(record);
        var messages = record.ToMessages();
        return OfTurns(messages, messages.Count, 0);
    }

    /// <summary>Over the turns before the last assistant turn, with a seed: two answers to one question have the same.</summary>
    public static UInt128 OfPrompt(SftRecord record, ulong seed)
    {
        ArgumentNullException.ThrowIfNull(record);
        var messages = record.ToMessages();
        var last = messages.Count - 1;
        while (last > 0 && !messages[last].IsAssistant)
        {
            last--;
        }

        return OfTurns(messages, Math.Max(last, 0), seed);
    }

    private static UInt128 OfTurns(IReadOnlyList<ChatMessage> messages, int count, ulong seed)
    {
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> number = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(number, seed);
        sha.AppendData(number);
        for (var i = 0; i < count; i++)
        {
            Append(sha, messages[i].Role);
            Append(sha, messages[i].Content);
        }

        Span<byte> hash = stackalloc byte[32];
        sha.GetHashAndReset(hash);
        return BinaryPrimitives.ReadUInt128LittleEndian(hash);
    }

    // the length goes first, so that ("ab", "c") and ("a", "bc") differ
    private static void Append(IncrementalHash sha, string text)
    {
        var bytes = ArrayPool<byte>.Shared.Rent(8 + Encoding.UTF8.GetMaxByteCount(text.Length));
        var length = Encoding.UTF8.GetBytes(text, bytes.AsSpan(8));
        BinaryPrimitives.WriteInt64LittleEndian(bytes, length);
        sha.AppendData(bytes.AsSpan(0, 8 + length));
        ArrayPool<byte>.Shared.Return(bytes);
    }
}
