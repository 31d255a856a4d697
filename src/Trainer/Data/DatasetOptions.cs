namespace Z1Coder.Trainer.Data;

/// <summary>Everything that decides which samples a data set has, and which tokens of them carry loss.</summary>
public sealed record DatasetOptions
{
    /// <summary>JSON or JSONL files, plain or gzip; what a file is, is read from its content. The order matters.</summary>
    public IReadOnlyList<string> Files { get; init; } = [];

    /// <summary>Which keys hold what; null finds out, file by file.</summary>
    public FieldMap? Fields { get; init; }

    /// <summary>How a record becomes the text of a prompt.</summary>
    public PromptFormat Format { get; init; } = PromptFormat.Chat;

    /// <summary>How the boundary between prompt and response is tokenised.</summary>
    public TokenizationRule Tokenization { get; init; } = TokenizationRule.Separate;

    /// <summary>Which assistant turns of a conversation carry loss.</summary>
    public TrainTurns Turns { get; init; } = TrainTurns.Last;

    /// <summary>Most tokens of a sample, the end token included.</summary>
    public int MaxLength { get; init; } = 1280;

    /// <summary>What to do with a longer sample.</summary>
    public OverLengthPolicy OverLength { get; init; } = OverLengthPolicy.Truncate;

    /// <summary>What to do with a line that cannot be read.</summary>
    public BrokenLinePolicy BrokenLines { get; init; } = BrokenLinePolicy.Stop;

    /// <summary>Whether a record equal to an earlier one is left out.</summary>
    public bool Deduplicate { get; init; } = true;

    /// <summary>Share of the prompts held out for evaluation, 0 to 1; the choice depends on the prompt and on <see cref="SplitSeed"/> only.</summary>
    public double EvalFraction { get; init; }

    /// <summary>Chooses which prompts are held out.</summary>
    public ulong SplitSeed { get; init; } = 42;

    /// <summary>Throws where a value makes no sense.</summary>
    public void Validate()
    {
        if (Files.Count == 0)
        {
            throw new InvalidInputException("data: no file is named; give at least one JSON or JSONL file");
        }

        if (MaxLength < 2)
        {
            throw new InvalidInputException($"data: max length is {MaxLength} tokens; it must be at least 2, one to read and one to predict");
        }

        if (!(EvalFraction >= 0 && EvalFraction < 1))
        {
            throw new InvalidInputException($"data: eval fraction is {EvalFraction}; it must be at least 0 and below 1");
        }

        Fields?.Validate();
    }
}
