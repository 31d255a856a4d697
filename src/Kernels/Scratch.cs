using System.Numerics;
using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>Small memory for partial sums, one piece per stream, kept and grown: after warm-up nothing is allocated. What it holds is
/// valid inside one kernel call; a stream runs one call at a time. On a device it is not zeroed, and a piece that was outgrown stays until
/// the stream goes, because queued work and captured graphs still use it.</summary>
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
            if (stream is CpuStream)
            {
                piece?.Arena.Dispose();
            }

            piece = new Piece(stream, bytes);
            s_pieces.AddOrUpdate(stream, piece);
        }

        return new Tensor<T>(piece.Arena, 0, shape);
    }

    private sealed class Piece
    {
        public Piece(ComputeStream stream, long bytes)
        {
            Capacity = (long)BitOperations.RoundUpToPowerOf2((ulong)Math.Max(bytes, 1 << 16));
            Arena = stream is CudaStream cuda ? new Arena("kernel scratch", cuda.Device) { Zeroed = false } : stream.CreateArena("kernel scratch");
            stream.Own(Arena);
            Arena.Declare<byte>(checked((int)Capacity));
            Arena.Allocate();
        }

        public Arena Arena { get; }

        public long Capacity { get; }
    }
}
