namespace Z1Coder.Trainer.Model;

/// <summary>The part of a parameter block that lies in one shard of its unit.</summary>
/// <param name="Block">index in <see cref="Qwen2Parameters.Blocks"/></param>
/// <param name="BlockStart">its first element, counted in the block</param>
/// <param name="ShardStart">the same element, counted in the shard</param>
/// <param name="Count">elements</param>
public readonly record struct ShardPiece(int Block, int BlockStart, int ShardStart, int Count);
