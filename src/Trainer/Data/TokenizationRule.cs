namespace Z1Coder.Trainer.Data;

/// <summary>Where the prompt's tokens end and the response's begin.</summary>
public enum TokenizationRule
{
    /// <summary>Prompt and response are tokenised apart and joined: the mask ends exactly where the response begins, as it does in decoding.</summary>
    Separate,

    /// <summary>
    /// As the published run did: the whole text is tokenised at once, and as many tokens are masked as the prompt alone has. A token may
    /// span the boundary, so the mask can be off by a token or so.
    /// </summary>
    Published,
}
