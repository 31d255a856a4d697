using Xunit;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>Tests that count what the whole process does: they run when no other test does.</summary>
[CollectionDefinition("alone", DisableParallelization = true)]
public sealed class AloneCollection;
