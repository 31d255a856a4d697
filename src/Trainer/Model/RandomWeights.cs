using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Model;

/// <summary>Initial weights from a counter-based generator: element i of parameter p depends on (seed, p, i) and on nothing else.</summary>
public static class RandomWeights
{
    /// <summary>Fills every parameter as its declaration says.</summary>
    /// <param name="weights">allocated</param>
    /// <param name="seed">of the run</param>
    /// <param name="initializerRange">standard deviation of matrices (transformers: initializer_range, 0.02)</param>
    public static void Fill(ParameterSet<float> weights, long seed, double initializerRange) => Fill(new ShardSet<float>(weights, 0), seed, initializerRange);

    /// <summary>Fills what the shard holds of every parameter: the same values as in the whole.</summary>
    /// <param name="weights">allocated</param>
    /// <param name="seed">of the run</param>
    /// <param name="initializerRange">standard deviation of matrices</param>
    public static void Fill(ShardSet<float> weights, long seed, double initializerRange)
    {
        var parameters = weights.Layout.Parameters;
        var residual = 1 / Math.Sqrt(2.0 * parameters.Config.NumHiddenLayers);
        var numbers = parameters.Blocks.SelectMany(b => b.Parts).Select((part, index) => (part, index)).ToDictionary(p => p.part.Name, p => (ulong)p.index);
        foreach (var (parameter, start, tensor) in weights.ByName)
        {
            var stream = Mix((ulong)seed, numbers[parameter.Name]);
            switch (parameter.Init)
            {
                case ParameterInit.One:
                    HostPieces.Fill(tensor, (_, piece) => piece.Fill(1));
                    break;
                case ParameterInit.Zero:
                    HostPieces.Fill(tensor, (_, piece) => piece.Clear());
                    break;
                case ParameterInit.NormalResidual:
                    HostPieces.Fill(tensor, (first, piece) => Normal(piece, start + first, stream, initializerRange * residual));
                    break;
                default:
                    HostPieces.Fill(tensor, (first, piece) => Normal(piece, start + first, stream, initializerRange));
                    break;
            }
        }
    }

    /// <summary>Box and Muller 1958, both values of each pair: elements 2k and 2k + 1 of the parameter, of which a part may hold one.</summary>
    private static void Normal(Span<float> values, long start, ulong stream, double deviation)
    {
        for (var i = -(int)(start & 1); i < values.Length; i += 2)
        {
            var bits = Mix(stream, (ulong)(start + i));
            var u = ((bits >> 32) + 0.5) / 4294967296.0;
            var v = (uint)bits / 4294967296.0;
            var radius = deviation * Math.Sqrt(-2 * Math.Log(u));
            if (i >= 0)
            {
                values[i] = (float)(radius * Math.Cos(2 * Math.PI * v));
            }

            if (i + 1 < values.Length)
            {
                values[i + 1] = (float)(radius * Math.Sin(2 * Math.PI * v));
            }
        }
    }

    private static ulong Mix(ulong key, ulong counter) =>
        SplitMix64.Mix(SplitMix64.Mix(unchecked((key * 0xD1342543DE82EF95) + ((counter + 1) * SplitMix64.Step))));
}
