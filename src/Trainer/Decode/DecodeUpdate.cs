namespace Z1Coder.Trainer.Decode;

/// <summary>What a step added to a sequence.</summary>
/// <param name="Text">characters that no stop string can take back; often none</param>
/// <param name="Tokens">new tokens so far</param>
/// <param name="Completion">set once, at the end; all updates' texts together are its text</param>
public readonly record struct DecodeUpdate(string Text, int Tokens, Completion? Completion);
