namespace Z1Coder.Trainer.Decode;

/// <summary>Why a completion ended.</summary>
public enum FinishReason
{
    /// <summary>An end token.</summary>
    EndToken,

    /// <summary>A stop string; the text ends before it.</summary>
    StopString,

    /// <summary>The limit of new tokens, or the context's end.</summary>
    Length,

    /// <summary>Whoever asked no longer wants it.</summary>
    Cancelled,
}
