using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Perf;

/// <summary>Weights for timing.</summary>
internal static class StepWeights
{
    /// <summary>Uniform in ±0.035, the deviation of an initial weight; norms too. Speed does not depend on the distribution, and a billion of them
    /// should not take a minute.</summary>
    public static void Fill<T>(ParameterSet<T> weights)
        where T : unmanaged => Fill(new ShardSet<T>(weights, 0));

    /// <summary>As the other, for a shard.</summary>
    public static void Fill<T>(ShardSet<T> weights)
        where T : unmanaged
    {
        var state = 0x9E3779B9u;
        foreach (var (_, _, tensor) in weights.ByName)
        {
            HostPieces.Fill(tensor, (_, piece) =>
            {
                for (var i = 0; i < piece.Length; i++)
                {
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    Lanes.Set(ref piece[i], 0, ((state / (float)uint.MaxValue) - 0.5f) * 0.07f);
                }
            });
        }
    }
}
