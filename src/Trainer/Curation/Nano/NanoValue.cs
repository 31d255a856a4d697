using System.Text;

namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>An argument or a result: a number, a truth value, a string, a list of numbers or a list of lists.</summary>
internal sealed class NanoValue
{
    public NanoValue(long number)
    {
        Number = number;
        Literal = number.ToString();
    }

    public NanoValue(bool truth)
    {
        Literal = truth ? "True" : "False";
    }

    public NanoValue(string text)
    {
        Text = text;
        Literal = $"\"{text}\"";
    }

    public NanoValue(long[] list)
    {
        List = list;
        Literal = Write(list);
    }

    public NanoValue(long[][] rows)
    {
        Rows = rows;
        Literal = $"[{string.Join(", ", rows.Select(Write))}]";
    }

    public long Number { get; }

    public string Text { get; } = "";

    public long[] List { get; } = [];

    public long[][] Rows { get; } = [];

    /// <summary>The value as Python writes it; values are equal when their literals are. Texts hold no quote and no backslash.</summary>
    public string Literal { get; }

    private static string Write(long[] list) => new StringBuilder("[").AppendJoin(", ", list).Append(']').ToString();
}
