namespace Z1Coder.Runtime;

/// <summary>What ptxas reports of one entry point.</summary>
/// <param name="Entry">name of the __global__ function</param>
/// <param name="Registers">per thread</param>
/// <param name="SharedBytes">static shared memory per block; dynamic shared memory is chosen at launch</param>
/// <param name="StackBytes">local memory frame per thread</param>
/// <param name="SpillStoreBytes">bytes of registers stored to local memory for want of room</param>
/// <param name="SpillLoadBytes">bytes of them loaded back</param>
public sealed record KernelResources(string Entry, int Registers, int SharedBytes, int StackBytes, int SpillStoreBytes, int SpillLoadBytes);
