using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static unsafe partial class Matmul
{
    private const int ProbeSeed = 20;

    private static readonly ConcurrentDictionary<BlockKey, MatmulBackend> s_blocks = new();

    /// <summary>
    /// y = x·wᵀ + bias for blocks of rows that have nothing to do with each other and whose number M is always the same (tokens of prompts). On
    /// a CPU the bits of a row of y depend on that row of x, on w, bias, M and <see cref="Backend"/> alone, not on the row's place or its
    /// neighbours. A library promises no such thing (oneDNN 2.6 keeps it with AVX-512 and not with AVX2), so the first block of each shape is
    /// preceded by one of equal rows: code whose rows then differ is passed over. On CUDA this is <see cref="Forward"/>.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="x">[M, K]</param>
    /// <param name="w">[N, K]</param>
    /// <param name="bias">[N], or default for none</param>
    /// <param name="y">[M, N]; no input</param>
    /// <exception cref="ArgumentException">the shapes do not fit together</exception>
    /// <exception cref="NotSupportedException">elements other than bfloat16 on CUDA, other than float or bfloat16 on a CPU</exception>
    public static void ForwardBlock<T>(ComputeStream stream, Tensor<T> x, Tensor<T> w, Tensor<T> bias, Tensor<T> y)
        where T : unmanaged => ForwardAny(stream, x, w, bias, y, accumulate: false, Rows.Block);

    /// <summary>The quickest code that gives each of M equal rows the same bits.</summary>
    private static MatmulBackend BlockBackend<T>(CpuStream stream, in Gemm<T, T> gemm)
        where T : unmanaged
    {
        var key = new BlockKey(typeof(T) == typeof(float), gemm.M, gemm.N, gemm.K, gemm.Bias != null, Backend);
        if (s_blocks.TryGetValue(key, out var known))
        {
            return known;
        }

        var (x, y) = (new T[gemm.M * (long)gemm.K], new T[gemm.M * (long)gemm.N]);
        var random = new Random(ProbeSeed);
        for (var i = 0; i < gemm.K; i++)
        {
            Lanes.Set(ref x[i], 0, random.NextSingle() - 0.5f);
        }

        for (var row = 1; row < gemm.M; row++)
        {
            x.AsSpan(0, gemm.K).CopyTo(x.AsSpan(row * gemm.K));
        }

        ReadOnlySpan<MatmulBackend> candidates = Backend == MatmulBackend.Auto ? [MatmulBackend.Auto, MatmulBackend.Managed] : [Backend];
        foreach (var backend in candidates)
        {
            fixed (T* from = x, to = y)
            {
                Run(stream, gemm with { A = from, ARow = gemm.K, C = to, CRow = gemm.N }, backend);
            }

            var (alike, zero) = Compare(MemoryMarshal.AsBytes(y.AsSpan()), gemm.M);
            if (zero)
            {
                return backend;                     // weights of zero show nothing, and any code multiplies them alike
            }

            if (alike)
            {
                return s_blocks[key] = backend;
            }
        }

        return s_blocks[key] = MatmulBackend.FewRows;
    }

    private static (bool Alike, bool Zero) Compare(ReadOnlySpan<byte> y, int rows)
    {
        var (bytes, alike) = (y.Length / rows, true);
        for (var row = 1; row < rows; row++)
        {
            alike &= y.Slice(row * bytes, bytes).SequenceEqual(y[..bytes]);
        }

        return (alike, !y.ContainsAnyExcept((byte)0));
    }

    private readonly record struct BlockKey(bool IsFloat, int M, int N, int K, bool HasBias, MatmulBackend Backend);

    /// <summary>What the rows of x have in common.</summary>
    private enum Rows
    {
        /// <summary>One batch: the quickest code.</summary>
        Batch,

        /// <summary>Nothing, and M is always the same.</summary>
        Block,

        /// <summary>Nothing.</summary>
        Single,
    }
}
