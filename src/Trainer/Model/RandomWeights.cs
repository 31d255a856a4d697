using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>Initial weights from a counter-based generator: element i of parameter p depends on (seed, p, i) and on nothing else.</summary>
public static class RandomWeights
{
    /// <summary>Fills every parameter as its declaration says.</summary>
    /// <param name="weights">allocated</param>
    /// <param name="seed">of the run</param>
    /// <param name="initializerRange">standard deviation of matrices (transformers: initializer_range, 0.02)</param>
    public static void Fill(ParameterSet<float> weights, long seed, double initializerRange)
    {
        var residual = 1 / Math.Sqrt(2.0 * weights.Parameters.Config.NumHiddenLayers);
        ulong index = 0;
        foreach (var (parameter, tensor) in weights.ByName)
        {
            switch (parameter.Init)
            {
                case ParameterInit.One:
                    HostPieces.Fill(tensor, (_, piece) => piece.Fill(1));
                    break;
                case ParameterInit.Zero:
                    HostPieces.Fill(tensor, (_, piece) => piece.Clear());
                    break;
                case ParameterInit.NormalResidual:
                    Normal(tensor, Mix((ulong)seed, index), initializerRange * residual);
                    break;
                default:
                    Normal(tensor, Mix((ulong)seed, index), initializerRange);
                    break;
            }

            index++;
        }
    }

    /// <summary>Box and Muller 1958, both values of each pair.</summary>
    private static void Normal(Tensor<float> tensor, ulong stream, double deviation) =>
        HostPieces.Fill(tensor, (start, piece) => Normal(piece, start, stream, deviation));

    private static void Normal(Span<float> values, long start, ulong stream, double deviation)
    {
        for (var i = 0; i < values.Length; i += 2)
        {
            var bits = Mix(stream, (ulong)(start + i));
            var u = ((bits >> 32) + 0.5) / 4294967296.0;
            var v = (uint)bits / 4294967296.0;
            var radius = deviation * Math.Sqrt(-2 * Math.Log(u));
            values[i] = (float)(radius * Math.Cos(2 * Math.PI * v));
            if (i + 1 < values.Length)
            {
                values[i + 1] = (float)(radius * Math.Sin(2 * Math.PI * v));
            }
        }
    }

    /// <summary>splitmix64's finalizer over (key, counter): Steele, Lea and Flood 2014.</summary>
    private static ulong Mix(ulong key, ulong counter)
    {
        var z = unchecked((key * 0xD1342543DE82EF95) + ((counter + 1) * 0x9E3779B97F4A7C15));
        for (var round = 0; round < 2; round++)
        {
            z = unchecked((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9);
            z = unchecked((z ^ (z >> 27)) * 0x94D049BB133111EB);
            z ^= z >> 31;
        }

        return z;
    }
}
