namespace Z1Coder.Runtime;

/// <summary>A device file that its compiler refuses.</summary>
public sealed class KernelCompileException : Exception
{
    /// <summary>The refusal of <paramref name="file"/> by <paramref name="compiler"/>.</summary>
    public KernelCompileException(string file, string compiler, string log)
        : base($"{compiler} refuses {file}:\n{log.Trim()}") => Log = log;

    /// <summary>What the compiler said.</summary>
    public string Log { get; }
}
