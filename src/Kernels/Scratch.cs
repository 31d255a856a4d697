using System.Numerics;
using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>Small memory for partial sums, one piece per stream, kept and grown: after warm-up nothing is allocated. What it holds is
/// valid inside one kernel call; a stream runs one call at a time.</summary>
internal static class Scratch
{
    private static readonly ConditionalWeakTable<ComputeStream, Piece> s_pieces = [];

    public static Tensor<T> Of<T>(ComputeStream stream, params ReadOnlySpan<int> extents)
        where T : unmanaged
    {
        var shape = new Shape(extents);
        var bytes = shape.Count * Unsafe.SizeOf<T>();
        if (!s_pieces.TryGetValue(stream, out var piece) || piece.Capacity < bytes)
        {
            piece?.Arena.Dispose();
            piece = new Piece(bytes);
            s_pieces.AddOrUpdate(stream, piece);
        }

        return new Tensor<T>(piece.Arena, 0, shape);
    }

    private sealed class Piece
    {
        public Piece(long bytes)
        {
            Capacity = (long)BitOperations.RoundUpToPowerOf2((ulong)Math.Max(bytes, 1 << 16));
            Arena = new Arena("kernel scratch");
            Arena.Declare<byte>(checked((int)Capacity));
            Arena.Allocate();
        }

        public Arena Arena { get; }

        public long Capacity { get; }
    }
}
