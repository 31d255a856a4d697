namespace Z1Coder.Trainer.Decode;

/// <summary>What a model wrote after a prompt.</summary>
/// <param name="Tokens">ids, the end token not included</param>
/// <param name="Text">their text, cut before a stop string</param>
/// <param name="Finish">why it ended</param>
/// <param name="CachedTokens">tokens of the prompt that were found in the cache and not computed</param>
public sealed record Completion(int[] Tokens, string Text, FinishReason Finish, int CachedTokens = 0);
