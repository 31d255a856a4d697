namespace Z1Coder.Trainer.Data;

/// <summary>The numbers of SplitMix64 (Steele, Lea, Flood 2014, Fast Splittable Pseudorandom Number Generators).</summary>
public static class SplitMix64
{
    /// <summary>What the state grows by from one number to the next: an odd number near 2^64 over the golden ratio.</summary>
    public const ulong Step = 0x9E3779B97F4A7C15;

    /// <summary>The number of a state: every bit of <paramref name="state"/> reaches every bit of it, and no two states have the same.</summary>
    public static ulong Mix(ulong state)
    {
        unchecked
        {
            state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9;
            state = (state ^ (state >> 27)) * 0x94D049BB133111EB;
            return state ^ (state >> 31);
        }
    }
}
