namespace Z1Coder.Trainer.Checkpoints;

/// <summary>One file of a checkpoint, as its manifest states it.</summary>
/// <param name="Name">within the directory of the checkpoint</param>
/// <param name="Bytes">length</param>
/// <param name="Sha256">of the content, lower-case hex</param>
public sealed record CheckpointFile(string Name, long Bytes, string Sha256);
