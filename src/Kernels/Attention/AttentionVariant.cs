using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// native/kernels/Attention.cu under one set of constants: head dim and tile sizes, its entry points and the shared memory of each. The
/// one place where tile sizes are chosen; what they mean is said in the device file.
/// </summary>
internal sealed class AttentionVariant
{
    /// <summary>Threads of every block.</summary>
    public const int Threads = 128;

    /// <summary>Rows of the fixed side of both backward kernels.</summary>
    public const int BackwardTile = 64;

    /// <summary>Rows that one block of a paged prompt takes.</summary>
    public const int PagedTile = 64;

    /// <summary>Query heads that one block of a pass of new tokens takes.</summary>
    public const int DecodeHeads = 16;

    private const int MaxHeadDim = 128;
    private static readonly AttentionVariant?[] s_variants = new AttentionVariant?[(MaxHeadDim / 8) + 1];

    /// <summary>Names the entry points; nothing is compiled before the first launch.</summary>
    public AttentionVariant(int headDim, int tileM, int tileN, int stages, int stepM, int stepN, int backwardStages)
    {
        HeadDim = headDim;
        TileM = tileM;
        var row = RowBytes(headDim);
        ForwardBytes = (tileM + (stages * tileN)) * row;
        BackwardQueriesBytes = ((2 * BackwardTile) + (2 * backwardStages * stepN)) * row;
        BackwardKeysBytes = ((2 * BackwardTile) + (2 * backwardStages * stepM)) * row + (2 * backwardStages * stepM * sizeof(float));
        PagedBytes = (PagedTile + (headDim > 64 ? 4 * 32 : 3 * 64)) * row;
        var padded = (headDim + 15) / 16 * 16;
        DecodeBytes = (DecodeHeads * row) + Math.Max(4 * 2 * 2 * 16 * row, 4 * 16 * (padded + 4) * sizeof(float)) + (2 * 4 * 16 * sizeof(float));
        Constants =
        [
            ("kHeadDim", headDim), ("kTileM", tileM), ("kTileN", tileN), ("kStages", stages), ("kStepM", stepM), ("kStepN", stepN),
            ("kBackwardStages", backwardStages), ("kForwardBytes", ForwardBytes), ("kBackwardQueriesBytes", BackwardQueriesBytes),
            ("kBackwardKeysBytes", BackwardKeysBytes), ("kPagedBytes", PagedBytes), ("kDecodeBytes", DecodeBytes),
        ];
        Forward = Entry("attention_forward");
        Delta = Entry("attention_delta");
        BackwardQueries = Entry("attention_backward_queries");
        BackwardKeys = Entry("attention_backward_keys");
        Paged = Entry("attention_paged");
        PagedDecode = Entry("attention_paged_decode");
        PagedMerge = Entry("attention_paged_merge");
        Append = Entry("attention_append");
        Copy = Entry("attention_copy");
    }

    public int HeadDim { get; }

    /// <summary>Queries of a block of forward.</summary>
    public int TileM { get; }

    public int ForwardBytes { get; }

    public int BackwardQueriesBytes { get; }

    public int BackwardKeysBytes { get; }

    /// <summary>Of a paged prompt, whose tiles of keys depend on the head dim alone.</summary>
    public int PagedBytes { get; }

    /// <summary>Of a pass of new tokens.</summary>
    public int DecodeBytes { get; }

    /// <summary>What the device file is specialised by.</summary>
    public (string Name, int Value)[] Constants { get; }

    public CudaKernel Forward { get; }

    public CudaKernel Delta { get; }

    public CudaKernel BackwardQueries { get; }

    public CudaKernel BackwardKeys { get; }

    public CudaKernel Paged { get; }

    public CudaKernel PagedDecode { get; }

    public CudaKernel PagedMerge { get; }

    public CudaKernel Append { get; }

    public CudaKernel Copy { get; }

    /// <summary>Every entry point.</summary>
    public IEnumerable<CudaKernel> Kernels =>
        [Forward, Delta, BackwardQueries, BackwardKeys, Paged, PagedDecode, PagedMerge, Append, Copy];

    /// <summary>The variant that launches use for a head dim.</summary>
    /// <exception cref="NotSupportedException">not a multiple of 8 up to 128</exception>
    public static AttentionVariant Of(int headDim)
    {
        if (headDim % 8 != 0 || headDim > MaxHeadDim)
        {
            throw new NotSupportedException($"Attention on CUDA takes head dims that are multiples of 8 up to {MaxHeadDim}, not {headDim}");
        }

        return s_variants[headDim / 8] ??= Default(headDim);       // made twice by two threads, it would only be compiled twice
    }

    /// <summary>Makes workspaces that are declared from now on use <paramref name="variant"/> for its head dim; null: the default again. For
    /// the search for tile sizes.</summary>
    public static void Use(int headDim, AttentionVariant? variant) => s_variants[headDim / 8] = variant;

    /// <summary>What is used where nothing was tuned. 32 rows a warp at H = 128 leave registers for 32 keys at a time; smaller heads take 64.</summary>
    public static AttentionVariant Default(int headDim) => headDim > 64
        ? new(headDim, tileM: 128, tileN: 32, stages: 4, stepM: 32, stepN: 32, backwardStages: 2)
        : new(headDim, tileM: 128, tileN: 64, stages: 3, stepM: 64, stepN: 64, backwardStages: 2);

    /// <summary>Bytes of a row of a tile in shared memory: padded to 16 elements, and to an odd number of 16-byte chunks unless the device
    /// file swizzles them.</summary>
    private static int RowBytes(int headDim)
    {
        var padded = (headDim + 15) / 16 * 16;
        return 2 * (padded % 64 == 0 ? padded : padded + 8);
    }

    private CudaKernel Entry(string name) => new(NativeSources.Of("Attention"), name, Constants);
}
