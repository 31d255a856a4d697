namespace Z1Coder.Trainer.Evaluate;

/// <summary>One run of a program as a script.</summary>
/// <param name="Stdin">What it reads.</param>
/// <param name="Stdout">What it must print; see <see cref="PrintedOutput.Matches"/>.</param>
public sealed record ScriptCase(string Stdin, string Stdout);
