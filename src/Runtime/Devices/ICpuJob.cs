namespace Z1Coder.Runtime;

/// <summary>Work over a range of independent items. A struct, so that starting it allocates nothing.</summary>
public interface ICpuJob
{
    /// <summary>Processes items [<paramref name="begin"/>, <paramref name="end"/>) on worker <paramref name="worker"/> (0 is the caller).</summary>
    /// <remarks>Mark it NoInlining where it loops over <c>Vector512</c>: inlined into the small method that calls it, it would get that method's small
    /// budget of inlining, and without AVX-512 each operation on such a vector is two more calls to inline.</remarks>
    void Run(int begin, int end, int worker);
}
