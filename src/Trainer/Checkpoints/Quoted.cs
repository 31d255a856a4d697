using System.Text;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>Names from outside, made fit for a message of one line.</summary>
internal static class Quoted
{
    private const int Longest = 120;

    /// <summary>The text in single quotes, cut when long, with control characters and halves of surrogate pairs replaced.</summary>
    public static string Name(string text)
    {
        var builder = new StringBuilder("'");
        foreach (var c in text.AsSpan(0, Math.Min(text.Length, Longest)))
        {
            builder.Append(char.IsControl(c) || char.IsSurrogate(c) || c is '\u2028' or '\u2029' ? '?' : c);
        }

        return builder.Append(text.Length > Longest ? "…'" : "'").ToString();
    }

    /// <summary>"[2, 3]".</summary>
    public static string Shape<T>(IEnumerable<T> extents) => $"[{string.Join(", ", extents)}]";
}
