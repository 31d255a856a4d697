namespace Z1Coder.Runtime;

/// <summary>A call of MPI that failed: code, text and the call.</summary>
public sealed class MpiException : Exception
{
    internal MpiException(int code, string text, string call)
        : base($"{call} failed with {code}: {text}")
    {
        Code = code;
    }

    /// <summary>Of the implementation.</summary>
    public int Code { get; }
}
