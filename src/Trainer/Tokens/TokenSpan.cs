namespace Z1Coder.Trainer.Tokens;

/// <summary>Tokens <paramref name="Start"/> up to, but not including, <paramref name="End"/>.</summary>
/// <param name="Start">First token.</param>
/// <param name="End">One past the last token.</param>
public readonly record struct TokenSpan(int Start, int End);
