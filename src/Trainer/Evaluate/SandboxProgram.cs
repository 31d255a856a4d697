namespace Z1Coder.Trainer.Evaluate;

/// <summary>One Python program to run confined.</summary>
/// <param name="Source">The program, model-written.</param>
/// <param name="Tests">
/// Trusted code that runs after it in the same namespace, compiled on its own so that the program cannot swallow it (an open string, a
/// comment, a __future__ import). Empty for none.
/// </param>
public sealed record SandboxProgram(string Source, string Tests = "")
{
    /// <summary>Trusted code that runs before the program in the same namespace, compiled on its own.</summary>
    public string Setup { get; init; } = "";

    /// <summary>Standard input of the program; empty means at its end from the start.</summary>
    public string Stdin { get; init; } = "";

    /// <summary>
    /// Runs as a script: __name__ is "__main__", and leaving by sys.exit(0) counts as running to the end. Otherwise __name__ is "solution", so
    /// that a block under `if __name__ == "__main__"` stays out, and any sys.exit is <see cref="SandboxOutcome.ExitedEarly"/>.
    /// </summary>
    public bool AsScript { get; init; }

    /// <summary>For a script: leaving by sys.exit with any status counts as running to the end.</summary>
    public bool AnyExitStatus { get; init; }
}
