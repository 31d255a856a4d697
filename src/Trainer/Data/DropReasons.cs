namespace Z1Coder.Trainer.Data;

/// <summary>The reasons for which this folder and the tokeniser leave a record out.</summary>
public static class DropReasons
{
    /// <summary>The line could not be read (policy skip).</summary>
    public const string BrokenLine = "broken line";

    /// <summary>Same prompt and response as an earlier record.</summary>
    public const string Duplicate = "exact duplicate";

    /// <summary>Nothing is asked.</summary>
    public const string EmptyPrompt = "empty prompt";

    /// <summary>Nothing is answered.</summary>
    public const string EmptyResponse = "empty response";

    /// <summary>A conversation in which the assistant never speaks.</summary>
    public const string NoAssistantTurn = "no assistant turn";

    /// <summary>A conversation of several turns, where the format holds one instruction and one answer.</summary>
    public const string NotSingleTurn = "not a single turn";

    /// <summary>More tokens than the maximum (policy drop).</summary>
    public const string TooLong = "too long";

    /// <summary>The prompt alone fills the maximum length, so that truncation leaves nothing to train on.</summary>
    public const string NoLossToken = "no loss token left";
}
