// Launches of native/kernels/AttentionHopper.cu: the forward and backward of Attention on sm_90a.
using System.Runtime.InteropServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>native/kernels/AttentionHopper.cu under the constants of one head dim: entry points, shared memory, launches.</summary>
internal sealed unsafe class AttentionHopper
{
    /// <summary>Rows of a tile: queries of forward, and the fixed side of both backward kernels.</summary>
    public const int Tile = 128;

    private const int Threads = 384, TileN = 128, Stages = 2, StepM = 64, StepN = 64, StepStages = 3;
    private const int Barrier = sizeof(ulong), SharedAlignment = 1024;

    private static readonly AttentionHopper s_64 = new(64), s_128 = new(128);

    private readonly int _headDim, _forwardBytes, _keysBytes, _queriesBytes;
    private readonly CudaKernel _forward, _keys, _queries;

    private AttentionHopper(int headDim)
    {
        _headDim = headDim;
        var row = headDim * sizeof(ushort);
        _forwardBytes = Aligned(((Tile + (2 * Stages * TileN)) * row) + ((2 + (4 * Stages)) * Barrier));
        var barriers = (2 + (2 * StepStages)) * Barrier;
        _keysBytes = Aligned((((2 * Tile) + (2 * StepStages * StepM)) * row) + (2 * StepStages * StepM * sizeof(float)) + barriers);
        _queriesBytes = Aligned((((2 * Tile) + (2 * StepStages * StepN)) * row) + barriers);
        (string, int)[] constants =
        [
            ("kHeadDim", headDim), ("kTileN", TileN), ("kStages", Stages), ("kStepM", StepM), ("kStepN", StepN),
            ("kStepStages", StepStages), ("kForwardBytes", _forwardBytes), ("kBackwardKeysBytes", _keysBytes),
            ("kBackwardQueriesBytes", _queriesBytes),
        ];
        var source = NativeSources.Of("AttentionHopper");
        _forward = new(source, "attention_hopper_forward", constants);
        _keys = new(source, "attention_hopper_backward_keys", constants);
        _queries = new(source, "attention_hopper_backward_queries", constants);
    }

    /// <summary>Every entry point under the constants of both head dims.</summary>
    public static IEnumerable<CudaKernel> CudaKernels => new[] { s_64, s_128 }.SelectMany(v => new[] { v._forward, v._keys, v._queries });

    /// <summary>Whether there are kernels for a head dim.</summary>
    public static bool Takes(int headDim) => headDim is 64 or 128;

    /// <summary>As <see cref="Attention.Forward"/>, with a loaded workspace.</summary>
    public static void Forward(CudaStream stream, Tensor<BFloat16> qkv, Tensor<BFloat16> o, Tensor<float> lse, AttentionWorkspace workspace)
    {
        var (variant, tiles) = (Of(workspace.HeadDim), workspace.HopperQueryTiles!);
        var parameters = new ForwardParams
        {
            Query = CudaTensorMap.Slabs(qkv, Tile, variant._headDim),
            Key = CudaTensorMap.Slabs(qkv, TileN, variant._headDim),
            O = o.Pointer,
            Lse = lse.Pointer,
            Tiles = tiles.Tiles.Pointer,
            TileCount = tiles.Blocks(stream),
            Heads = workspace.Heads,
            KvHeads = workspace.KvHeads,
            Scale = Scale(variant._headDim),
        };
        stream.Launch(variant._forward, Grid(stream, parameters.TileCount, workspace.Heads), Threads, parameters, variant._forwardBytes);
    }

    /// <summary>The gradients of the keys, then those of the queries; delta is in the workspace.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="dO">[T, N · H]</param>
    /// <param name="qkv">[T, (N + 2K) · H]</param>
    /// <param name="lse">[T, N]</param>
    /// <param name="dq">rows of dqkv</param>
    /// <param name="dk">rows of dkvStride elements</param>
    /// <param name="dv">rows of dkvStride elements</param>
    /// <param name="dkvStride">elements</param>
    /// <param name="workspace">loaded; holds delta</param>
    public static void Backward(
        CudaStream stream, Tensor<BFloat16> dO, Tensor<BFloat16> qkv, Tensor<float> lse, BFloat16* dq, BFloat16* dk, BFloat16* dv,
        long dkvStride, AttentionWorkspace workspace)
    {
        var variant = Of(workspace.HeadDim);
        var (keys, queries) = (workspace.HopperKeyTiles!, workspace.HopperQueryTiles!);
        var parameters = new BackwardParams
        {
            Tile = CudaTensorMap.Slabs(qkv, Tile, variant._headDim),
            Step = CudaTensorMap.Slabs(qkv, StepM, variant._headDim),
            Gradient = CudaTensorMap.Slabs(dO, StepM, variant._headDim),
            Lse = lse.Pointer,
            Delta = workspace.Delta.Pointer,
            Dq = dq,
            Dk = dk,
            Dv = dv,
            Tiles = keys.Tiles.Pointer,
            DqStride = qkv.Shape.Columns,
            DkvStride = dkvStride,
            TileCount = keys.Blocks(stream),
            Heads = workspace.Heads,
            KvHeads = workspace.KvHeads,
            Scale = Scale(variant._headDim),
        };
        stream.Launch(variant._keys, Grid(stream, parameters.TileCount, workspace.KvHeads), Threads, parameters, variant._keysBytes);
        parameters.Step = CudaTensorMap.Slabs(qkv, StepN, variant._headDim);
        parameters.Gradient = CudaTensorMap.Slabs(dO, Tile, variant._headDim);
        parameters.Tiles = queries.Tiles.Pointer;
        parameters.TileCount = queries.Blocks(stream);
        stream.Launch(variant._queries, Grid(stream, parameters.TileCount, workspace.Heads), Threads, parameters, variant._queriesBytes);
    }

    private static AttentionHopper Of(int headDim) => headDim == 64 ? s_64 : s_128;

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
        public int* Tiles;
        public long DqStride, DkvStride;
        public int TileCount, Heads, KvHeads;
        public float Scale;
    }
}
