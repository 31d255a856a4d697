namespace Z1Coder.Trainer.Evaluate;

/// <summary>What came out of one confined program.</summary>
/// <param name="Outcome">How it ended.</param>
/// <param name="ExitCode">Exit status; 128 + signal when a signal ended it.</param>
/// <param name="Stdout">The first bytes of standard output, as UTF-8.</param>
/// <param name="Stderr">The first bytes of standard error, as UTF-8.</param>
/// <param name="WallSeconds">From the interpreter being ready to the end of the last process.</param>
/// <param name="CpuSeconds">All processes, the start of the interpreter and of the confinement included.</param>
public sealed record SandboxResult(
    SandboxOutcome Outcome, int ExitCode, string Stdout, string Stderr, double WallSeconds, double CpuSeconds);
