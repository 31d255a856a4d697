namespace Z1Coder.Trainer.Train;

/// <summary>One kind of collective of an optimizer step, and what it costs one rank.</summary>
/// <param name="What">what is moved, and by which operation</param>
/// <param name="Ranks">n of the group</param>
/// <param name="Calls">operations a step</param>
/// <param name="BytesPerRank">bytes that a rank sends in a step</param>
/// <param name="Seconds">of the operations, one after another</param>
/// <param name="ExposedSeconds">of those, what no computation hides</param>
public sealed record CollectiveTraffic(string What, int Ranks, long Calls, double BytesPerRank, double Seconds, double ExposedSeconds);
