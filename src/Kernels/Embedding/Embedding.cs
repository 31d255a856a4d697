using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>Row lookup: y[t] = weight[tokens[t]]. Shapes: T tokens, V vocabulary, D hidden.</summary>
public static partial class Embedding
{
    /// <summary>y[t] = weight[tokens[t]].</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="tokens">[T], each in [0, V)</param>
    /// <param name="weight">[V, D]</param>
    /// <param name="y">[T, D]</param>
    /// <exception cref="ArgumentOutOfRangeException">a token outside [0, V); nothing has been written</exception>
    public static void Forward<T>(ComputeStream stream, Tensor<int> tokens, Tensor<T> weight, Tensor<T> y)
        where T : unmanaged
    {
        Expect.Shape(tokens, tokens.Shape[0]);
        Expect.Shape(weight, weight.Shape[0], y.Shape[1]);
        Expect.Shape(y, tokens.Shape[0], weight.Shape[1]);
        if (stream is CpuStream cpu)
        {
            CheckTokens(tokens.Span, weight.Shape[0]);
            ForwardCpu(cpu, tokens, weight, y);
        }
        else if (stream is CudaStream cuda)
        {
            ForwardCuda(cuda, tokens, weight, y);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>dweight[tokens[t]] += dy[t], added in the order of t, so that equal tokens give the same bits on any number of workers.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="tokens">[T], each in [0, V)</param>
    /// <param name="dy">[T, D]</param>
    /// <param name="dweight">[V, D], accumulates</param>
    /// <param name="accumulate">false zeroes all of <paramref name="dweight"/> first; a tied head has written its part already and passes true</param>
    /// <exception cref="ArgumentOutOfRangeException">a token outside [0, V); nothing has been written</exception>
    public static void Backward<T>(ComputeStream stream, Tensor<int> tokens, Tensor<T> dy, Tensor<float> dweight, bool accumulate)
        where T : unmanaged
    {
        Expect.Shape(tokens, tokens.Shape[0]);
        Expect.Shape(dy, tokens.Shape[0], dweight.Shape[1]);
        Expect.Shape(dweight, dweight.Shape[0], dy.Shape[1]);
        if (stream is CpuStream cpu)
        {
            CheckTokens(tokens.Span, dweight.Shape[0]);
            BackwardCpu(cpu, tokens, dy, dweight, accumulate);
        }
        else if (stream is CudaStream cuda)
        {
            BackwardCuda(cuda, tokens, dy, dweight, accumulate);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Refuses tokens that the table does not have. A CPU stream checks in each call; for a device whoever uploads the tokens
    /// does.</summary>
    /// <param name="tokens">each in [0, V)</param>
    /// <param name="vocabulary">V</param>
    /// <exception cref="ArgumentOutOfRangeException">names the first position that is wrong</exception>
    public static void CheckTokens(ReadOnlySpan<int> tokens, int vocabulary)
    {
        for (var t = 0; t < tokens.Length; t++)
        {
            if ((uint)tokens[t] >= (uint)vocabulary)
            {
                FailToken(tokens, t, vocabulary);
            }
        }
    }

    /// <summary>Reads one row of weight and writes one row of y per token.</summary>
    public static Cost ForwardCost<T>(long tokens, long hidden)
        where T : unmanaged => new((tokens * 4) + (2 * tokens * hidden * Unsafe.SizeOf<T>()), 0);

    /// <summary>Reads dy, reads and writes one row of dweight per token; without <paramref name="accumulate"/> also zeroes dweight.</summary>
    public static Cost BackwardCost<T>(long tokens, long vocabulary, long hidden, bool accumulate)
        where T : unmanaged => new(
            (tokens * 4) + (tokens * hidden * (Unsafe.SizeOf<T>() + 8)) + (accumulate ? 0 : vocabulary * hidden * 4),
            tokens * hidden);

    [DoesNotReturn]
    private static void FailToken(ReadOnlySpan<int> tokens, int position, int vocabulary) => throw new ArgumentOutOfRangeException(
        nameof(tokens), $"the token at position {position} is {tokens[position]}; it must be at least 0 and below the vocabulary of {vocabulary}");
}
