// Launches of native/kernels/AttentionHopper.cu: the forward and backward of Attention on sm_90a.
using System.Runtime.InteropServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>native/kernels/AttentionHopper.cu under the constants of one head dim: entry points, shared memory, launches.</summary>
internal sealed unsafe class AttentionHopper
{
    /// <summary>Rows of a tile: queries of forward, and the fixed side of both backward kernels.</summary>
    public const int Tile = 128;

    private const int Threads = 384, SumThreads = 256, StepM = 64;
    private const int Barrier = sizeof(ulong), SharedAlignment = 1024;

    private static readonly AttentionHopper s_64 = new(64, tileN: 128, stages: 2, stepN: 64, stepStages: 3);
    private static readonly AttentionHopper s_128 = new(128, tileN: 128, stages: 2, stepN: 64, stepStages: 3);

    private readonly int _headDim, _tileN, _stepN, _forwardBytes, _keysBytes, _queriesBytes;
    private readonly CudaKernel _forward, _keys, _queries, _sum;

    /// <summary>Names the entry points; compiles nothing. The device file says what the numbers may be.</summary>
    public AttentionHopper(int headDim, int tileN, int stages, int stepN, int stepStages)
    {
        (_headDim, _tileN, _stepN) = (headDim, tileN, stepN);
        var row = headDim * sizeof(ushort);
        _forwardBytes = Aligned(((Tile + (2 * stages * tileN)) * row) + ((2 + (4 * stages)) * Barrier));
        var barriers = (2 + (2 * stepStages)) * Barrier;
        _keysBytes = Aligned((((2 * Tile) + (2 * stepStages * StepM)) * row) + (2 * stepStages * StepM * sizeof(float)) + barriers);
        _queriesBytes = Aligned((((2 * Tile) + (2 * stepStages * stepN)) * row) + barriers);
        (string, int)[] constants =
        [
            ("kHeadDim", headDim), ("kTileN", tileN), ("kStages", stages), ("kStepM", StepM), ("kStepN", stepN),
            ("kStepStages", stepStages), ("kForwardBytes", _forwardBytes), ("kBackwardKeysBytes", _keysBytes),
            ("kBackwardQueriesBytes", _queriesBytes),
        ];
        var source = NativeSources.Of("AttentionHopper");
        _forward = new(source, "attention_hopper_forward", constants);
        _keys = new(source, "attention_hopper_backward_keys", constants);
        _queries = new(source, "attention_hopper_backward_queries", constants);
        _sum = new(source, "attention_hopper_sum", constants);
    }

    /// <summary>Every entry point under the constants of both head dims.</summary>
    public static IEnumerable<CudaKernel> CudaKernels => new[] { s_64, s_128 }.SelectMany(v => v.Kernels);

    /// <summary>Every entry point.</summary>
    public IEnumerable<CudaKernel> Kernels => [_forward, _keys, _queries, _sum];

    /// <summary>Whether there are kernels for a head dim.</summary>
    public static bool Takes(int headDim) => headDim is 64 or 128;

    /// <summary>As <see cref="Attention.Forward"/>, with a loaded workspace.</summary>
    public void Forward(CudaStream stream, Tensor<BFloat16> qkv, Tensor<BFloat16> o, Tensor<float> lse, AttentionWorkspace workspace)
    {
        var tiles = workspace.HopperQueryTiles!;
        var parameters = new ForwardParams
        {
            Query = CudaTensorMap.Slabs(qkv, Tile, _headDim),
            Key = CudaTensorMap.Slabs(qkv, _tileN, _headDim),
            O = o.Pointer,
            Lse = lse.Pointer,
            Tiles = tiles.Tiles.Pointer,
            TileCount = tiles.Blocks(stream),
            Heads = workspace.Heads,
            KvHeads = workspace.KvHeads,
            Scale = Scale(_headDim),
        };
        stream.Launch(_forward, Grid(stream, parameters.TileCount, workspace.Heads), Threads, parameters, _forwardBytes);
    }

    /// <summary>Query heads of a key/value head that one block takes in the kernel of the keys: all, or fewer where there would be less
    /// than two items per multiprocessor. A choice per workspace, not per batch, so that bits do not depend on the batch.</summary>
    public static int SplitHeads(int multiprocessors, int maxTokens, int heads, int kvHeads)
    {
        var (group, items) = (heads / kvHeads, Math.Max(1L, maxTokens / Tile) * kvHeads);
        var splits = Math.Clamp(((2L * multiprocessors) + items - 1) / items, 1, group);
        return (group + (int)splits - 1) / (int)splits;
    }

    /// <summary>The gradients of the keys, then those of the queries, then the sum of the former's parts.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dO">[T, N · H]</param>
    /// <param name="qkv">[T, (N + 2K) · H]</param>
    /// <param name="lse">[T, N]</param>
    /// <param name="dq">rows of dqkv</param>
    /// <param name="dk">rows of dkvStride elements; may lie over qkv when there are parts</param>
    /// <param name="dv">behind each row of dk</param>
    /// <param name="dkvStride">elements</param>
    /// <param name="workspace">loaded; holds delta</param>
    public void Backward(
        CudaStream stream, Tensor<BFloat16> dO, Tensor<BFloat16> qkv, Tensor<float> lse, BFloat16* dq, BFloat16* dk, BFloat16* dv,
        long dkvStride, AttentionWorkspace workspace)
    {
        var (keys, queries) = (workspace.HopperKeyTiles!, workspace.HopperQueryTiles!);
        var (splits, tokens) = (workspace.HopperSplits, qkv.Shape[0]);
        var parameters = new BackwardParams
        {
            Tile = CudaTensorMap.Slabs(qkv, Tile, _headDim),
            Step = CudaTensorMap.Slabs(qkv, StepM, _headDim),
            Gradient = CudaTensorMap.Slabs(dO, StepM, _headDim),
            Lse = lse.Pointer,
            Delta = workspace.Delta.Pointer,
            Dq = dq,
            Dk = dk,
            Dv = dv,
            Parts = splits > 1 ? workspace.HopperParts.Pointer : null,
            Tiles = keys.Tiles.Pointer,
            DqStride = qkv.Shape.Columns,
            DkvStride = dkvStride,
            Tokens = tokens,
            TileCount = keys.Blocks(stream),
            Heads = workspace.Heads,
            KvHeads = workspace.KvHeads,
            Splits = splits,
            SplitHeads = workspace.HopperSplitHeads,
            Scale = Scale(_headDim),
        };
        stream.Launch(_keys, Grid(stream, parameters.TileCount, workspace.KvHeads * splits), Threads, parameters, _keysBytes);
        parameters.Step = CudaTensorMap.Slabs(qkv, _stepN, _headDim);
        parameters.Gradient = CudaTensorMap.Slabs(dO, Tile, _headDim);
        parameters.Tiles = queries.Tiles.Pointer;
        parameters.TileCount = queries.Blocks(stream);
        stream.Launch(_queries, Grid(stream, parameters.TileCount, workspace.Heads), Threads, parameters, _queriesBytes);
        if (splits > 1)
        {
            var columns = 2 * workspace.KvHeads * _headDim;
            var sum = new SumParams
            {
                Parts = parameters.Parts,
                To = dk,
                ToStride = dkvStride,
                Rows = tokens,
                Splits = splits,
                Columns = columns,
            };
            var pieces = (long)tokens * (columns / 8);
            stream.Launch(_sum, new(checked((int)((pieces + SumThreads - 1) / SumThreads))), SumThreads, sum);
        }
    }

    /// <summary>The variant that launches use for a head dim that it takes.</summary>
    public static AttentionHopper Of(int headDim) => headDim == 64 ? s_64 : s_128;

    /// <summary>log2 e / √H: scores times it are exponents of 2.</summary>
    private static float Scale(int headDim) => (float)(1 / (Math.Sqrt(headDim) * Math.Log(2)));

    /// <summary>One block per multiprocessor, which takes its share of the items in rounds.</summary>
    private static CudaGrid Grid(CudaStream stream, int tiles, int heads) =>
        new((int)Math.Min(stream.Device.Multiprocessors, (long)tiles * heads));

    private static int Aligned(int bytes) => (bytes + SharedAlignment - 1) / SharedAlignment * SharedAlignment;

    [StructLayout(LayoutKind.Sequential, Size = 320)]
    private struct ForwardParams
    {
        public CudaTensorMap Query, Key;
        public BFloat16* O;
        public float* Lse;
        public int* Tiles;
        public int TileCount, Heads, KvHeads;
        public float Scale;
    }

    [StructLayout(LayoutKind.Sequential, Size = 512)]
    private struct BackwardParams
    {
        public CudaTensorMap Tile, Step, Gradient;
        public float* Lse, Delta;
        public BFloat16* Dq, Dk, Dv;
        public float* Parts;
        public int* Tiles;
        public long DqStride, DkvStride;
        public int Tokens, TileCount, Heads, KvHeads, Splits, SplitHeads;
        public float Scale;
    }

    private struct SumParams
    {
        public float* Parts;
        public BFloat16* To;
        public long ToStride, Rows;
        public int Splits, Columns;
    }
}
