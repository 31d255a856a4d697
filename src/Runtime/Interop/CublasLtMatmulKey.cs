namespace Z1Coder.Runtime;

/// <summary>
/// All that cuBLASLt chooses an algorithm by, in its own column-major terms: D[m, n] = op(A)[m, k] · op(B)[k, n]. Beta is left out: it adds
/// one read of C to every algorithm alike.
/// </summary>
internal readonly record struct CublasLtMatmulKey
{
    public required int M { get; init; }

    public required int N { get; init; }

    public required int K { get; init; }

    /// <summary>A is stored [k, m] instead of [m, k].</summary>
    public required bool TransposeA { get; init; }

    /// <summary>B is stored [n, k] instead of [k, n].</summary>
    public required bool TransposeB { get; init; }

    public required CublasLtType TypeA { get; init; }

    public required CublasLtType TypeB { get; init; }

    /// <summary>Of C and D, which are one matrix.</summary>
    public required CublasLtType TypeD { get; init; }

    /// <summary>Adds a vector of m elements of D's type to each column.</summary>
    public bool HasBias { get; init; }

    /// <summary>Common alignment of the addresses, in bytes: 256, 16 or a smaller power of two.</summary>
    public required int Alignment { get; init; }

    /// <summary>Columns are contiguous, so the leading dimension is the extent of the stored rows.</summary>
    public long LdA => TransposeA ? K : M;

    /// <summary>As <see cref="LdA"/>.</summary>
    public long LdB => TransposeB ? N : K;

    /// <summary>As <see cref="LdA"/>.</summary>
    public long LdD => M;

    /// <summary>Operand bytes of A.</summary>
    public long BytesA => (long)M * K * SizeOf(TypeA);

    /// <summary>Operand bytes of B.</summary>
    public long BytesB => (long)K * N * SizeOf(TypeB);

    /// <summary>Bytes of D.</summary>
    public long BytesD => (long)M * N * SizeOf(TypeD);

    /// <summary>Whether the operands are 8-bit floats, which come with scales.</summary>
    public bool IsFp8 => TypeA is CublasLtType.E4M3 or CublasLtType.E5M2;

    /// <summary>The alignment class of addresses, given all of them or-ed together.</summary>
    public static int AlignmentOf(nint addresses) =>
        (addresses & 255) == 0 ? 256 : (addresses & 15) == 0 ? 16 : 1 << System.Numerics.BitOperations.TrailingZeroCount(addresses);

    /// <inheritdoc/>
    public override string ToString() =>
        $"{M} x {N} x {K} {(TransposeA ? 'T' : 'N')}{(TransposeB ? 'T' : 'N')} {TypeA} · {TypeB} to {TypeD}{(HasBias ? " with bias" : "")}, "
        + $"aligned to {Alignment} bytes";

    private static int SizeOf(CublasLtType type) => type switch
    {
        CublasLtType.Float32 => 4,
        CublasLtType.BFloat16 => 2,
        _ => 1,
    };
}
