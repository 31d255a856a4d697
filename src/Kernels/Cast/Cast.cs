using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>Between fp32 and the storage type of a model: master weights to compute weights and back.</summary>
public static partial class Cast
{
    /// <summary>to = from, rounded to nearest even; with T = float a copy.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="from">any shape</param>
    /// <param name="to">as many elements</param>
    public static void Round<T>(ComputeStream stream, Tensor<float> from, Tensor<T> to)
        where T : unmanaged => Round(stream, from, to, default, stochastic: false);

    /// <summary>
    /// to = from, rounded up or down at random, up with a probability equal to the part cut off. The random bits are a function of
    /// (<paramref name="seed"/>, <paramref name="step"/>, element) alone, the same as in <see cref="AdamW.Step"/>: it repeats
    /// the rounding of that step. With T = float a copy.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="from">any shape</param>
    /// <param name="to">as many elements</param>
    /// <param name="seed">of this tensor</param>
    /// <param name="step">of the optimizer</param>
    /// <param name="firstElement">the number of the first element here where these are part of a larger tensor</param>
    public static void RoundStochastic<T>(
        ComputeStream stream, Tensor<float> from, Tensor<T> to, ulong seed, long step, long firstElement = 0)
        where T : unmanaged => Round(stream, from, to, StochasticRounding.Key(seed, step), stochastic: true, firstElement);

    /// <summary>to = from, exact.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="from">any shape</param>
    /// <param name="to">as many elements</param>
    public static void Widen<T>(ComputeStream stream, Tensor<T> from, Tensor<float> to)
        where T : unmanaged => Widen(stream, from, to, add: false);

    /// <summary>to = to + from, added in fp32: how reduced gradients of one micro-batch join those of the others.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="from">any shape</param>
    /// <param name="to">as many elements</param>
    public static void Add<T>(ComputeStream stream, Tensor<T> from, Tensor<float> to)
        where T : unmanaged => Widen(stream, from, to, add: true);

    /// <summary>Cost of each rounding or widening: every element read and written once.</summary>
    public static Cost RoundCost<T>(long elements)
        where T : unmanaged => new((4 + Unsafe.SizeOf<T>()) * elements, 0);

    /// <summary>Reads both, writes one; one addition an element.</summary>
    public static Cost AddCost<T>(long elements)
        where T : unmanaged => new((8 + Unsafe.SizeOf<T>()) * elements, elements);

    private static void Widen<T>(ComputeStream stream, Tensor<T> from, Tensor<float> to, bool add)
        where T : unmanaged
    {
        Expect.That(from.Count == to.Count, "from and to must have equally many elements");
        if (stream is CpuStream cpu)
        {
            WidenCpu(cpu, from, to, add);
        }
        else if (stream is CudaStream cuda)
        {
            WidenCuda(cuda, from, to, add);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    private static void Round<T>(ComputeStream stream, Tensor<float> from, Tensor<T> to, ulong key, bool stochastic, long firstElement = 0)
        where T : unmanaged
    {
        Expect.That(from.Count == to.Count, "from and to must have equally many elements");
        if (stream is CpuStream cpu)
        {
            RoundCpu(cpu, from, to, key, stochastic, firstElement);
        }
        else if (stream is CudaStream cuda)
        {
            RoundCuda(cuda, from, to, key, stochastic, firstElement);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }
}
