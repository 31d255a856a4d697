using System.Runtime.InteropServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class GlobalNorm
{
    private const int Threads = 256, SumThreads = 1024, ScratchBytes = 256;
    private const int MaxOnStack = 512;

    private static readonly CudaKernel s_squares = new(NativeSources.Of("GlobalNorm"), "global_norm_squares");
    private static readonly CudaKernel s_sum = new(NativeSources.Of("GlobalNorm"), "global_norm_sum");

    internal static CudaKernel[] CudaKernels => [s_squares, s_sum];

    private static double SumOfSquaresCuda(CudaStream stream, ReadOnlySpan<Tensor<float>> gradients)
    {
        Span<Piece> pieces = gradients.Length <= MaxOnStack ? stackalloc Piece[gradients.Length] : new Piece[gradients.Length];
        var (count, chunks) = (0, 0L);
        foreach (var gradient in gradients)
        {
            if (gradient.Count > 0)
            {
                var x = Expect.On(stream, gradient);
                Expect.That((nuint)x % 16 == 0, "a gradient must start at a multiple of 16 bytes");
                pieces[count++] = new Piece { X = x, Count = gradient.Count, FirstChunk = chunks };
                chunks += (gradient.Count + Chunk - 1) / Chunk;
            }
        }

        if (count == 0)
        {
            return 0;
        }

        // One piece of memory: the table, the chunks' sums, the result.
        var table = count * sizeof(Piece) / sizeof(double);
        var scratch = Scratch.Of<double>(stream, checked(table + (int)chunks + 1));
        var result = scratch.Rows(table + (int)chunks, 1);
        stream.Upload(MemoryMarshal.Cast<Piece, double>(pieces[..count]), scratch.Rows(0, table));
        var p = new SquaresParams
        {
            Pieces = (Piece*)scratch.Pointer, Partial = scratch.Rows(table, (int)chunks).Pointer, Sum = result.Pointer, PieceCount = count,
            ChunkCount = (int)chunks, Chunk = Chunk,
        };
        stream.Launch(s_squares, new CudaGrid((int)chunks), Threads, p, ScratchBytes);
        stream.Launch(s_sum, new CudaGrid(1), SumThreads, p, ScratchBytes);
        var sum = 0.0;
        stream.Download(result, new Span<double>(ref sum));
        return sum;
    }

    private static void ChunkSumsCuda(CudaStream stream, Tensor<float> x, int chunk, Tensor<double> sums)
    {
        var piece = new Piece { X = Expect.On(stream, x), Count = x.Count };
        Expect.That((nuint)piece.X % 16 == 0, "a gradient must start at a multiple of 16 bytes");
        var table = Scratch.Of<double>(stream, sizeof(Piece) / sizeof(double));
        stream.Upload(MemoryMarshal.Cast<Piece, double>(new ReadOnlySpan<Piece>(in piece)), table);
        var p = new SquaresParams
        {
            Pieces = (Piece*)table.Pointer, Partial = Expect.On(stream, sums), PieceCount = 1, ChunkCount = (int)sums.Count, Chunk = chunk,
        };
        stream.Launch(s_squares, new CudaGrid((int)sums.Count), Threads, p, ScratchBytes);
    }

    private struct Piece
    {
        public float* X;
        public long Count, FirstChunk;
    }

    private struct SquaresParams
    {
        public Piece* Pieces;
        public double* Partial, Sum;
        public int PieceCount, ChunkCount, Chunk;
    }
}
