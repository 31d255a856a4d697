namespace Z1Coder.Trainer.Curation.Filters;

/// <summary>Which records a filter takes out. Rules are tried in the order in which they stand here; the first that applies names the
/// reason.</summary>
public sealed record FilterOptions
{
    /// <summary>Takes out records equal to an earlier one, and records without question or answer.</summary>
    public bool Exact { get; init; } = true;

    /// <summary>Takes out answers that were cut: finish_reason length, a think tag or a code fence without its end.</summary>
    public bool Unfinished { get; init; } = true;

    /// <summary>A text that every answer must end with, such as an end token that the data spell out; null asks for none.</summary>
    public string? EndToken { get; init; }

    /// <summary>Takes out answers without a fenced code block.</summary>
    public bool CodeBlock { get; init; } = true;

    /// <summary>Takes out answers without a Python block.</summary>
    public bool Python { get; init; } = true;

    /// <summary>Least characters of an answer.</summary>
    public int LeastCharacters { get; init; } = 1;

    /// <summary>Most characters of an answer.</summary>
    public int MostCharacters { get; init; } = int.MaxValue;

    /// <summary>Most tokens of question and answer together; needs <see cref="CountTokens"/>.</summary>
    public int MostTokens { get; init; } = int.MaxValue;

    /// <summary>Counts tokens; null where nobody asks.</summary>
    public Func<string, int>? CountTokens { get; init; }

    /// <summary>Takes out records that share words with these benchmarks; null looks at none.</summary>
    public BenchmarkIndex? Benchmarks { get; init; }

    /// <summary>Takes out records whose question resembles an earlier one's by so much; 0 takes out none.</summary>
    public double NearDuplicates { get; init; } = 0.7;
}
