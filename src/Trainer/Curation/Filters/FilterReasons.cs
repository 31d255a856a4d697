namespace Z1Coder.Trainer.Curation.Filters;

/// <summary>Why a filter takes a record out, beside the reasons of <see cref="Data.DropReasons"/>.</summary>
public static class FilterReasons
{
    /// <summary>The answer was cut: its reasoning, or a block, has no end.</summary>
    public const string Unfinished = "unfinished answer";

    /// <summary>The answer does not end with the end token asked for.</summary>
    public const string NoEndToken = "no end token";

    /// <summary>No fenced code.</summary>
    public const string NoCodeBlock = "no code block";

    /// <summary>Code, but none in Python.</summary>
    public const string NotPython = "no Python code block";

    /// <summary>Fewer characters than asked for.</summary>
    public const string TooShort = "answer too short";

    /// <summary>More characters than allowed.</summary>
    public const string TooLong = "answer too long";

    /// <summary>More tokens than allowed.</summary>
    public const string TooManyTokens = "too many tokens";

    /// <summary>Words of a benchmark.</summary>
    public const string Contaminated = "overlaps a benchmark";

    /// <summary>The question resembles an earlier one.</summary>
    public const string NearDuplicate = "near duplicate";
}
