namespace Z1Coder.Kernels;

/// <summary>Tile sizes of attention's mma.sync kernels; what they mean is said in native/kernels/Attention.cu.</summary>
/// <param name="TileM">queries of a block of forward</param>
/// <param name="TileN">keys that forward takes at a time</param>
/// <param name="Stages">buffers of keys and values in forward</param>
/// <param name="StepM">queries that the backward kernel of the keys takes at a time</param>
/// <param name="StepN">keys that the backward kernel of the queries takes at a time</param>
/// <param name="BackwardStages">buffers in backward</param>
public readonly record struct AttentionTiles(int TileM, int TileN, int Stages, int StepM, int StepN, int BackwardStages);
