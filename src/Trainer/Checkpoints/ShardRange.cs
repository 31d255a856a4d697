namespace Z1Coder.Trainer.Checkpoints;

/// <summary>Consecutive elements of one parameter that one rank keeps: what a checkpoint file stores as one tensor.</summary>
/// <param name="Parameter">Hugging Face name</param>
/// <param name="Start">its first element, counted in the parameter, row-major</param>
/// <param name="Unit">index in <see cref="Model.ShardLayout.Units"/></param>
/// <param name="ShardStart">the same element, counted in the rank's shard of the unit</param>
/// <param name="Count">elements</param>
public readonly record struct ShardRange(string Parameter, int Start, int Unit, int ShardStart, int Count)
{
    /// <summary>The name in the file: parameter, '@', start.</summary>
    public string Name => $"{Parameter}@{Start}";
}
