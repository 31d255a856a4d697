namespace Z1Coder.Trainer.Evaluate;

/// <summary>A published pass@1.</summary>
/// <param name="Model">Who reached it.</param>
/// <param name="Percent">0 to 100.</param>
/// <param name="Source">Where it is published: owner/repository:path.</param>
/// <param name="Kinds">Of the groups that were published, 0 to 100.</param>
public sealed record PublishedFigure(string Model, double Percent, string Source, IReadOnlyDictionary<string, double>? Kinds = null);
