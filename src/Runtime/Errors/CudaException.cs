namespace Z1Coder.Runtime;

/// <summary>A CUDA call that failed: number, name, text and the call as written. After a sticky error the process must end.</summary>
public sealed class CudaException : Exception
{
    /// <summary>The failure of <paramref name="expression"/>.</summary>
    /// <param name="code">CUresult</param>
    /// <param name="name">its name, "CUDA_ERROR_…"</param>
    /// <param name="text">what it means, and what is known about the cause</param>
    /// <param name="expression">the call, or what was launched</param>
    public CudaException(int code, string name, string text, string expression)
        : base($"{expression} failed with {name} ({code}): {text}")
    {
        Code = code;
        Name = name;
        Text = text;
        Expression = expression;
    }

    /// <summary>CUresult.</summary>
    public int Code { get; }

    /// <summary>"CUDA_ERROR_…"</summary>
    public string Name { get; }

    /// <summary>What it means, and what is known about the cause.</summary>
    public string Text { get; }

    /// <summary>The call, or what was launched.</summary>
    public string Expression { get; }

    /// <summary>Whether the context is lost: every later call fails, so the process must end with what is on disk.</summary>
    public bool IsSticky => IsStickyCode(Code);

    /// <summary>The codes after which a context cannot be used: hardware faults and everything a kernel can do wrong.</summary>
    internal static bool IsStickyCode(int code) => code is 214 or 220 or 226 or 700 or 702 or 710 or >= 714 and <= 719 or 721;
}
