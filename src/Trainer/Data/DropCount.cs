namespace Z1Coder.Trainer.Data;

/// <summary>How many records were left out for one reason.</summary>
/// <param name="Reason">The reason.</param>
/// <param name="Count">Records left out for it.</param>
/// <param name="Examples">The first few of them: an id, or a sentence naming file and line.</param>
public sealed record DropCount(string Reason, long Count, IReadOnlyList<string> Examples);
