namespace Z1Coder.Trainer.Tokens;

/// <summary>What a tokenizer is made of. Whoever makes one has checked it: 256 byte tokens, unique ids, merges of known tokens.</summary>
/// <param name="Vocabulary">token in byte-level stand-ins to id</param>
/// <param name="Merges">in rank order</param>
/// <param name="Added">by id</param>
/// <param name="Rule">how text is cut into words</param>
/// <param name="Compose">normalise to NFC first</param>
internal sealed record TokenizerParts(
    Dictionary<string, int> Vocabulary, List<(int Left, int Right, int Product)> Merges, List<TokenizerAddedToken> Added,
    PreTokenizerRule Rule, bool Compose);
