namespace Z1Coder.Trainer.Evaluate;

/// <summary>Which of several equally good code blocks of an answer counts.</summary>
public enum CodeChoice
{
    /// <summary>The last one: models correct themselves.</summary>
    Last,

    /// <summary>The first one: models add usage examples.</summary>
    First,
}
