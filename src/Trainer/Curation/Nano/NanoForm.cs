namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>How a second function calls the first, f. In every text {f} is the name of f and {c} the constant.</summary>
/// <param name="Key">Its name; the meaning is in <see cref="NanoCall.Evaluate"/>.</param>
/// <param name="Base">The family of f: a list of integers, or one integer.</param>
/// <param name="Parameters">The parameters of the second function.</param>
/// <param name="Code">The one canonical Python expression.</param>
/// <param name="Phrases">How a question may say it.</param>
internal sealed record NanoForm(string Key, NanoFamily Base, string Parameters, string Code, params string[] Phrases)
{
    public bool HasConstant { get; } = Code.Contains("{c}", StringComparison.Ordinal);
}
