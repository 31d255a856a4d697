using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// One general product C[M,N] (=|+=) A[M,K]·B[K,N] (+ bias[N]) as addresses and strides in elements. A, B and bias hold TIn, C holds
/// TOut; the two strides of A and of B are 1 and the row length in either order; C's columns are contiguous.
/// </summary>
internal readonly unsafe struct Gemm<TIn, TOut>
    where TIn : unmanaged
    where TOut : unmanaged
{
    public required TIn* A { get; init; }

    public required long ARow { get; init; }

    public required long AColumn { get; init; }

    public required TIn* B { get; init; }

    public required long BRow { get; init; }

    public required long BColumn { get; init; }

    /// <summary>null: none.</summary>
    public TIn* Bias { get; init; }

    public required TOut* C { get; init; }

    public required long CRow { get; init; }

    public required int M { get; init; }

    public required int N { get; init; }

    public required int K { get; init; }

    public required bool Accumulate { get; init; }

    /// <summary>The same product over a rectangle of C.</summary>
    public Gemm<TIn, TOut> Tile(int row, int rows, int column, int columns) => this with
    {
        A = A + (row * ARow),
        B = B + (column * BColumn),
        Bias = Bias == null ? null : Bias + column,
        C = C + (row * CRow) + column,
        M = rows,
        N = columns,
    };

    /// <summary>What oneDNN caches a primitive by.</summary>
    public OneDnnMatmulKey Key => new()
    {
        M = M,
        N = N,
        K = K,
        ARow = ARow,
        AColumn = AColumn,
        BRow = BRow,
        BColumn = BColumn,
        CRow = CRow,
        InputIsBFloat16 = typeof(TIn) == typeof(BFloat16),
        OutputIsBFloat16 = typeof(TOut) == typeof(BFloat16),
        HasBias = Bias != null,
        Accumulate = Accumulate,
    };
}
