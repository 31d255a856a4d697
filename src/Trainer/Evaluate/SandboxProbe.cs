namespace Z1Coder.Trainer.Evaluate;

/// <summary>Whether programs can be confined on this machine.</summary>
/// <param name="Works">True when a program was run confined and confirmed every layer from inside.</param>
/// <param name="Message">One sentence: what confines, or what is missing and how to get it.</param>
public sealed record SandboxProbe(bool Works, string Message);
