namespace Z1Coder.Trainer.Cli;

/// <summary>The command line asks for what cannot be asked; exit code 2. For what an option's own validator cannot see.</summary>
/// <param name="message">one sentence that says what would be right</param>
internal sealed class UsageException(string message) : Exception(message);
