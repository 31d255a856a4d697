namespace Z1Coder.Trainer.Data;

/// <summary>What to do with a sample that has more tokens than the maximum.</summary>
public enum OverLengthPolicy
{
    /// <summary>Keep the first tokens, as the published run did; the sample loses its end token, which the report counts.</summary>
    Truncate,

    /// <summary>Leave the sample out.</summary>
    Drop,
}
