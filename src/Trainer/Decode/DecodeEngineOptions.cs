namespace Z1Coder.Trainer.Decode;

/// <summary>Sizes of an engine.</summary>
public sealed record DecodeEngineOptions
{
    /// <summary>Sequences under way at once.</summary>
    public int Slots { get; init; } = 16;

    /// <summary>Longest sequence, prompt and new tokens; the model's context at most.</summary>
    public int Capacity { get; init; } = 4096;

    /// <summary>Tokens that the cache holds in all; 0 gives every slot its whole capacity.</summary>
    public int CacheTokens { get; init; }

    /// <summary>Rows of a prompt pass; 0 takes 128 on a CPU and 1024 on a device. Results depend on it in their last bits.</summary>
    public int PromptRows { get; init; }

    /// <summary>Tokens of a page of the cache, a power of two.</summary>
    public int PageTokens { get; init; } = 16;

    /// <summary>Whether prompts that begin alike share pages; results are the same either way.</summary>
    public bool SharePrefixes { get; init; } = true;
}
