using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Batches;

/// <summary>
/// The order of samples in an epoch: a permutation that depends on seed, epoch and count, and on nothing else (not on the number of
/// ranks, not on what ran before). Fisher-Yates whose draw for place i is a hash of (seed, epoch, i).
/// </summary>
public static class EpochOrder
{
    /// <summary>Writes the permutation of 0 .. <paramref name="order"/>.Length - 1 that belongs to the epoch.</summary>
    public static void Fill(ulong seed, int epoch, Span<int> order)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(epoch);
        for (var i = 0; i < order.Length; i++)
        {
            order[i] = i;
        }

        var key = Mix(Mix(seed) + (ulong)epoch);
        for (var i = order.Length - 1; i > 0; i--)
        {
            // high half of a product: uniform over 0..i up to one part in 2^64 / (i + 1)
            var j = (int)Math.BigMul(Mix(key + (SplitMix64.Step * (ulong)i)), (ulong)i + 1, out _);
            (order[i], order[j]) = (order[j], order[i]);
        }
    }

    private static ulong Mix(ulong x) => SplitMix64.Mix(x + SplitMix64.Step);
}
