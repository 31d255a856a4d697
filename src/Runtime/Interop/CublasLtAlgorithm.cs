using System.Globalization;

namespace Z1Coder.Runtime;

/// <summary>cublasLtMatmulAlgo_t: 64 bytes that only the library version which made them understands.</summary>
internal unsafe struct CublasLtAlgorithm
{
    /// <summary>Bytes of the blob.</summary>
    public const int Size = 64;

    // values of cublasLtMatmulAlgoConfigAttributes_t
    private const int Id = 0;                   // CUBLASLT_ALGO_CONFIG_ID
    private const int TileId = 1;               // CUBLASLT_ALGO_CONFIG_TILE_ID
    private const int SplitKNum = 2;            // CUBLASLT_ALGO_CONFIG_SPLITK_NUM
    private const int ReductionScheme = 3;      // CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME
    private const int StagesId = 6;             // CUBLASLT_ALGO_CONFIG_STAGES_ID

    private fixed ulong _data[Size / sizeof(ulong)];

    /// <summary>A copy of <paramref name="bytes"/>, which must be <see cref="Size"/> long.</summary>
    public static CublasLtAlgorithm FromBytes(ReadOnlySpan<byte> bytes)
    {
        CublasLtAlgorithm algorithm;
        bytes[..Size].CopyTo(new Span<byte>(algorithm._data, Size));
        return algorithm;
    }

    /// <summary>The bytes, for the cache on disk.</summary>
    public byte[] ToBytes()
    {
        fixed (ulong* data = _data)
        {
            return new ReadOnlySpan<byte>(data, Size).ToArray();
        }
    }

    /// <summary>How partial sums of a split K come together; null where the library does not say.</summary>
    public CublasLtReduction? Reduction => Attribute(ReductionScheme) is { } value ? (CublasLtReduction)value : null;

    /// <summary>How it works, for logs, as the library numbers it.</summary>
    public override string ToString() =>
        $"algo {Text(Id)} tile {Text(TileId)} stages {Text(StagesId)} splitk {Text(SplitKNum)} reduction {Text(ReductionScheme)}";

    private string Text(int attribute) => Attribute(attribute)?.ToString(CultureInfo.InvariantCulture) ?? "?";

    private uint? Attribute(int attribute)
    {
        uint value = 0;
        fixed (CublasLtAlgorithm* self = &this)
        {
            return CublasLt.cublasLtMatmulAlgoConfigGetAttribute(self, attribute, &value, sizeof(uint), null) == CublasStatus.Success
                ? value
                : null;
        }
    }
}
