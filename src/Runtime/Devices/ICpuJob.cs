namespace Z1Coder.Runtime;

/// <summary>Work over a range of independent items. A struct, so that starting it allocates nothing.</summary>
public interface ICpuJob
{
    /// <summary>Processes items [<paramref name="begin"/>, <paramref name="end"/>) on worker <paramref name="worker"/> (0 is the caller).</summary>
    void Run(int begin, int end, int worker);
}
