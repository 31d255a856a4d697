namespace Z1Coder.Trainer.Tokens;

/// <summary>How text is cut into words before byte-pair merges; a tokenizer file names its rule as a regular expression.</summary>
internal enum PreTokenizerRule
{
    /// <summary>Qwen2: contractions in any case, words with one leading non-letter, single digits, punctuation with line ends.</summary>
    Qwen2,

    /// <summary>GPT-2's byte-level rule: lower-case contractions, words, numbers and punctuation with one leading space.</summary>
    Gpt2,
}
