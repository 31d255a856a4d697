namespace Z1Coder.Trainer.Model;

/// <summary>Parameter blocks that are gathered, reduced and stored together: the embedding, one decoder layer, or final norm and head.</summary>
/// <param name="Name">for messages and traces</param>
/// <param name="FirstBlock">index in <see cref="Qwen2Parameters.Blocks"/></param>
/// <param name="BlockCount">blocks, consecutive</param>
/// <param name="Elements">of the flat run, padding included: a multiple of shards · <see cref="ShardLayout.NormChunk"/></param>
public sealed record ShardUnit(string Name, int FirstBlock, int BlockCount, int Elements);
