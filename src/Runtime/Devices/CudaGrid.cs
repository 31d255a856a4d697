namespace Z1Coder.Runtime;

/// <summary>Blocks of a launch per axis.</summary>
public readonly record struct CudaGrid(int X, int Y = 1, int Z = 1);
