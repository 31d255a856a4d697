namespace Z1Coder.Trainer.Tokens;

/// <summary>What is wrong in a template or its data, without the file's name; ChatTemplate adds name and line.</summary>
internal sealed class JinjaException : Exception
{
    public JinjaException(string message, int line = 0)
        : base(message) => Line = line;

    /// <summary>The line in the template, or 0 where only the running statement knows it.</summary>
    public int Line { get; }
}
