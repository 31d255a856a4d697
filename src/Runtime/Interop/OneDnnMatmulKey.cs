namespace Z1Coder.Runtime;

/// <summary>
/// All that fixes a oneDNN matmul C[M,N] (=|+=) A[M,K]·B[K,N] (+ bias[N]) except the addresses. Strides are in elements; one of each
/// operand's two strides is 1; C's columns are contiguous.
/// </summary>
internal readonly struct OneDnnMatmulKey : IEquatable<OneDnnMatmulKey>
{
    public required int M { get; init; }

    public required int N { get; init; }

    public required int K { get; init; }

    public required long ARow { get; init; }

    public required long AColumn { get; init; }

    public required long BRow { get; init; }

    public required long BColumn { get; init; }

    public required long CRow { get; init; }

    /// <summary>Whether A, B and the bias are bfloat16; float otherwise.</summary>
    public required bool InputIsBFloat16 { get; init; }

    /// <summary>Whether C is bfloat16; float otherwise.</summary>
    public required bool OutputIsBFloat16 { get; init; }

    public required bool HasBias { get; init; }

    public required bool Accumulate { get; init; }

    private int Flags => (InputIsBFloat16 ? 1 : 0) | (OutputIsBFloat16 ? 2 : 0) | (HasBias ? 4 : 0) | (Accumulate ? 8 : 0);

    public bool Equals(OneDnnMatmulKey other) =>
        M == other.M && N == other.N && K == other.K && ARow == other.ARow && AColumn == other.AColumn
        && BRow == other.BRow && BColumn == other.BColumn && CRow == other.CRow && Flags == other.Flags;

    public override bool Equals(object? obj) => obj is OneDnnMatmulKey other && Equals(other);

    public override int GetHashCode()
    {
        const ulong Odd = 0x9E3779B97F4A7C15;
        var h = (((ulong)(uint)M << 32) | (uint)N) * Odd;
        h = (h ^ (h >> 29) ^ (((ulong)(uint)K << 8) | (uint)Flags)) * Odd;
        h = (h ^ (h >> 29) ^ (ulong)(ARow + (3 * BRow) + (5 * CRow) + (7 * AColumn) + (11 * BColumn))) * Odd;
        return (int)(h >> 32);
    }
}
