using Xunit;

namespace Z1Coder.Tests.Kernels;

/// <summary>Tests that use hostcuda: one at a time, because errors are injected into, and counted for, the whole process.</summary>
[CollectionDefinition("hostcuda")]
public sealed class HostCudaCollection;
