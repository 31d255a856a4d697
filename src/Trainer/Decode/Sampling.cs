using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Decode;

/// <summary>
/// How the next token is drawn: logits divided by the temperature, the <see cref="TopK"/> largest kept, of those the fewest whose
/// probabilities sum to at least <see cref="TopP"/> (Holtzman et al. 2020, arXiv:1904.09751), one drawn by a counter-based random number.
/// </summary>
/// <param name="Temperature">0 takes the largest logit, the lowest id of equals; otherwise positive and finite</param>
/// <param name="TopP">above 0, at most 1; 1 keeps all</param>
/// <param name="TopK">0 keeps all</param>
/// <param name="Seed">the draw of the n-th new token is a function of (seed, n) alone: no other sequence changes it</param>
public readonly record struct Sampling(float Temperature, float TopP, int TopK, ulong Seed)
{
    /// <summary>The largest logit every time.</summary>
    public static Sampling Greedy { get; } = new(0, 1, 0, 0);

    /// <summary>The rule of one of several completions of a prompt: the first keeps the seed, each other has one mixed with its number.</summary>
    public Sampling OfChoice(int choice) => choice == 0 ? this : this with { Seed = SplitMix64.Mix(Seed + ((ulong)choice * SplitMix64.Step)) };
}
