using Xunit;

namespace Z1Coder.Tests;

/// <summary>Tests that count or set what the whole process shares (allocations, memory, the GEMM backend): they run when no other test does.</summary>
[CollectionDefinition("alone", DisableParallelization = true)]
public sealed class AloneCollection;
