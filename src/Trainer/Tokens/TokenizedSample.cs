namespace Z1Coder.Trainer.Tokens;

/// <summary>One sample ready to train on. Position t of it predicts token t + 1.</summary>
public sealed class TokenizedSample
{
    /// <summary>A sample; the spans are ascending, apart, and lie within the tokens.</summary>
    public TokenizedSample(string id, int[] tokens, params TokenSpan[] loss)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        ArgumentNullException.ThrowIfNull(loss);
        var previous = 0;
        foreach (var (start, end) in loss)
        {
            if (start < previous || end < start || end > tokens.Length)
            {
                throw new ArgumentException($"sample {id}: loss span {start}..{end} of {tokens.Length} tokens", nameof(loss));
            }

            previous = end;
            LossTokens += Math.Max(0, end - Math.Max(start, 1));      // nothing predicts token 0
        }

        (Id, Tokens, Loss) = (id, tokens, loss);
    }

    /// <summary>The record's id.</summary>
    public string Id { get; }

    /// <summary>Prompt and response, the end token included unless it was cut off.</summary>
    public int[] Tokens { get; }

    /// <summary>The tokens that are to be predicted, as ranges of <see cref="Tokens"/>.</summary>
    public TokenSpan[] Loss { get; }

    /// <summary>Tokens in all.</summary>
    public int Length => Tokens.Length;

    /// <summary>Tokens before the first that is to be predicted.</summary>
    public int PromptTokens => Loss.Length == 0 ? Tokens.Length : Loss[0].Start;

    /// <summary>How many tokens are predicted with loss.</summary>
    public int LossTokens { get; }

    /// <summary>Tokens that truncation cut off; 0 for most samples.</summary>
    public int TokensCut { get; init; }

    /// <summary>True when the end token was cut off.</summary>
    public bool LostEndToken => TokensCut > 0;

    /// <summary>True when the end token also occurs inside the response, where decoding would stop.</summary>
    public bool EndTokenInside { get; init; }
}
