namespace Z1Coder.Trainer.Tokens;

/// <summary>A token matched in the text as a whole, before anything is cut into words.</summary>
/// <param name="Id">its id</param>
/// <param name="Content">the text it stands for</param>
/// <param name="Special">left out by decoding with skipSpecial</param>
/// <param name="Normalized">searched for in the normalised text, not in the text as given</param>
public sealed record TokenizerAddedToken(int Id, string Content, bool Special, bool Normalized = false);
