using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Tokens;

/// <summary>
/// A tokeniser small enough to follow by hand: one token per character, but "ab" is one token (so that a boundary can be spanned), and
/// the special strings of ChatML are one token each.
/// </summary>
internal static class ToyTokens
{
    public const int Start = 1, End = 2, Merged = 3, FirstCharacter = 10;

    public static int[] Encode(string text)
    {
        var tokens = new List<int>();
        for (var i = 0; i < text.Length;)
        {
            var (token, length) = string.CompareOrdinal(text, i, "<|im_start|>", 0, 12) == 0 ? (Start, 12)
                : string.CompareOrdinal(text, i, "<|im_end|>", 0, 10) == 0 ? (End, 10)
                : string.CompareOrdinal(text, i, "ab", 0, 2) == 0 ? (Merged, 2)
                : (FirstCharacter + text[i], 1);
            tokens.Add(token);
            i += length;
        }

        return [.. tokens];
    }

    public static string Decode(IEnumerable<int> tokens) => string.Concat(tokens.Select(token => token switch
    {
        Start => "<|im_start|>",
        End => "<|im_end|>",
        Merged => "ab",
        _ => $"{(char)(token - FirstCharacter)}",
    }));

    public static string ChatMl(IReadOnlyList<ChatMessage> messages, bool open) =>
        (messages is [{ Role: "system" }, ..] ? "" : "<|im_start|>system\nS<|im_end|>\n")
        + string.Concat(messages.Select(m => $"<|im_start|>{m.Role}\n{m.Content}<|im_end|>\n"))
        + (open ? "<|im_start|>assistant\n" : "");
}
