namespace Z1Coder.Trainer.Checkpoints;

/// <summary>What a checkpoint says of itself.</summary>
/// <param name="Step">optimizer steps done</param>
/// <param name="WorldSize">ranks that wrote it</param>
/// <param name="ModelFingerprint">one line that tells two models apart; see <see cref="Model.Qwen2Config.Fingerprint"/></param>
public sealed record CheckpointInfo(long Step, int WorldSize, string ModelFingerprint);
