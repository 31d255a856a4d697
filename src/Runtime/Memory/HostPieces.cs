namespace Z1Coder.Runtime;

/// <summary>
/// Walks a tensor wherever it is, in pieces of host memory: for initialising, loading and saving, not for the step. A tensor of the host
/// is walked in place; one of a device goes through a buffer of at most <see cref="MostElements"/>.
/// </summary>
public static class HostPieces
{
    /// <summary>Largest piece, elements.</summary>
    public const int MostElements = 16 << 20;

    /// <summary>Gets the elements from <paramref name="start"/> on.</summary>
    public delegate void Filler<T>(long start, Span<T> piece);

    /// <summary>Is shown the elements from <paramref name="start"/> on.</summary>
    public delegate void Reader<T>(long start, ReadOnlySpan<T> piece);

    /// <summary>Writes every element; pieces come in order and begin at even indices.</summary>
    public static void Fill<T>(Tensor<T> tensor, Filler<T> fill)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(fill);
        Walk(tensor, (start, piece, buffer) =>
        {
            if (buffer is null)
            {
                fill(start, piece.Span);
                return;
            }

            fill(start, buffer.AsSpan(0, (int)piece.Count));
            piece.CopyFrom(buffer.AsSpan(0, (int)piece.Count));
        });
    }

    /// <summary>Reads every element; pieces come in order and begin at even indices.</summary>
    public static void Read<T>(Tensor<T> tensor, Reader<T> read)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(read);
        Walk(tensor, (start, piece, buffer) =>
        {
            if (buffer is null)
            {
                read(start, piece.Span);
                return;
            }

            piece.CopyTo(buffer.AsSpan(0, (int)piece.Count));
            read(start, buffer.AsSpan(0, (int)piece.Count));
        });
    }

    private static void Walk<T>(Tensor<T> tensor, Action<long, Tensor<T>, T[]?> visit)
        where T : unmanaged
    {
        var flat = tensor.Reshape(checked((int)tensor.Count));
        var buffer = tensor.Device is null ? null : new T[Math.Min(MostElements, flat.Count)];
        for (var start = 0; start < flat.Count; start += Math.Min(MostElements, (int)flat.Count - start))
        {
            visit(start, flat.Rows(start, (int)Math.Min(MostElements, flat.Count - start)), buffer);
        }
    }
}
