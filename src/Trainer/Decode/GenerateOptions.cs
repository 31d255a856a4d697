namespace Z1Coder.Trainer.Decode;

/// <summary>How to decode.</summary>
/// <param name="MaxNewTokens">longest completion, tokens</param>
/// <param name="EndTokens">ids that end a completion; none for an endless one</param>
/// <param name="StopStrings">texts that end a completion; may be empty</param>
public sealed record GenerateOptions(int MaxNewTokens, IReadOnlyList<int> EndTokens, IReadOnlyList<string> StopStrings);
