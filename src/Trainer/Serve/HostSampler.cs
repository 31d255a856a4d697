using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Serve;

/// <summary>Draws a token from logits on the host, in double: the rule of <see cref="Sampling"/>.</summary>
internal static class HostSampler
{
    /// <summary>The token with the counter's number.</summary>
    /// <param name="logits">[V]</param>
    /// <param name="sampling">temperature above 0</param>
    /// <param name="counter">index of the new token in its sequence</param>
    public static int Draw(ReadOnlySpan<float> logits, Sampling sampling, int counter)
    {
        var ids = new int[logits.Length];
        var keys = new float[logits.Length];
        for (var i = 0; i < ids.Length; i++)
        {
            (ids[i], keys[i]) = (i, -logits[i]);
        }

        Array.Sort(ids, (a, b) => keys[a] != keys[b] ? keys[a].CompareTo(keys[b]) : a.CompareTo(b));
        var kept = sampling.TopK > 0 ? Math.Min(sampling.TopK, ids.Length) : ids.Length;
        var weights = new double[kept];
        var (total, largest) = (0.0, (double)logits[ids[0]]);
        for (var i = 0; i < kept; i++)
        {
            total += weights[i] = Math.Exp((logits[ids[i]] - largest) / sampling.Temperature);
        }

        var nucleus = 0.0;
        for (var i = 0; i < kept && sampling.TopP < 1; i++)
        {
            nucleus += weights[i];
            if (nucleus >= sampling.TopP * total)
            {
                (kept, total) = (i + 1, nucleus);
            }
        }

        var left = Uniform(sampling.Seed, counter) * total;
        for (var i = 0; i < kept - 1; i++)
        {
            left -= weights[i];
            if (left < 0)
            {
                return ids[i];
            }
        }

        return ids[kept - 1];
    }

    /// <summary>From 0 to below 1, 53 bits of SplitMix64 at (seed, counter); Steele et al. 2014.</summary>
    private static double Uniform(ulong seed, int counter)
    {
        var z = Mix(seed + 0x9E3779B97F4A7C15UL) + ((ulong)(counter + 1) * 0x9E3779B97F4A7C15UL);
        return (Mix(z) >> 11) * (1.0 / (1UL << 53));
    }

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return z ^ (z >> 31);
    }
}
