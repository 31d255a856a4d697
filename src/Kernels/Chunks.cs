using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>A tensor seen as one flat row, cut into pieces of equal length (the last one shorter), whatever its shape.</summary>
internal static class Chunks
{
    public static Span<T> Of<T>(Tensor<T> tensor, int chunk, int length)
        where T : unmanaged
    {
        var first = (long)chunk * length;
        var count = (int)Math.Min(length, tensor.Count - first);
        return MemoryMarshal.CreateSpan(ref Unsafe.Add(ref tensor.Origin, (nint)first), count);
    }
}
