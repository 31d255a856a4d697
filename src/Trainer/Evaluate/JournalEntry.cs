namespace Z1Coder.Trainer.Evaluate;

/// <summary>A finished outcome.</summary>
/// <param name="Outcome">How the program ended.</param>
/// <param name="Seconds">What it took.</param>
/// <param name="Needs">The Python module that it found missing, if that ended it.</param>
internal sealed record JournalEntry(SandboxOutcome Outcome, double Seconds, string? Needs);
