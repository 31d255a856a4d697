namespace Z1Coder.Runtime;

/// <summary>A call of NCCL that failed: result, its name and text, what NCCL said last, and the call as written.</summary>
public sealed class NcclException : Exception
{
    internal NcclException(NcclResult result, string text, string detail, string expression)
        : base($"{expression} failed with {NameOf(result)} ({(int)result}): {text}{(detail.Length == 0 ? "" : $"; {detail}")}")
    {
        Result = result;
        Expression = expression;
    }

    /// <summary>ncclResult_t.</summary>
    public int Code => (int)Result;

    /// <summary>ncclRemoteError, say.</summary>
    public string Name => NameOf(Result);

    /// <summary>The call, as written in the source.</summary>
    public string Expression { get; }

    internal NcclResult Result { get; }

    internal static string NameOf(NcclResult result) => Enum.IsDefined(result) ? $"nccl{result}" : "an unknown result";
}
