using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// Adam with decoupled weight decay, in the order of torch.optim.AdamW. Loshchilov and Hutter 2017, arXiv:1711.05101.
/// Master weights and moments in fp32; the weight that the model computes with is the master, rounded.
/// </summary>
public static partial class AdamW
{
    /// <summary>
    /// With g = gradient · gradientScale: p ← p·(1 − lr·decay); m ← m + (1 − β1)·(g − m); v ← β2·v + (1 − β2)·g²;
    /// p ← p − lr/(1 − β1^step) · m/(√v/√(1 − β2^step) + eps); weight ← p rounded, to nearest even or as
    /// <see cref="AdamWOptions.StochasticRounding"/> says. With lr = 0, p keeps its bits.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="gradient">any shape; read only</param>
    /// <param name="master">as many elements; p, updated</param>
    /// <param name="m">as many elements; first moment, updated</param>
    /// <param name="v">as many elements; second moment, updated</param>
    /// <param name="weight">as many elements; overwritten; with T = float it may be master</param>
    /// <param name="options">the hyper-parameters</param>
    /// <param name="step">1 at the first step; the bias corrections are computed in double</param>
    /// <param name="gradientScale">clipping and loss normalisation in one factor</param>
    /// <param name="firstElement">the number of the first element here where these are part of a larger tensor: stochastic rounding counts from
    /// the tensor's start, so that a tensor cut into parts gets the bits of the whole</param>
    public static void Step<T>(
        ComputeStream stream,
        Tensor<float> gradient,
        Tensor<float> master,
        Tensor<float> m,
        Tensor<float> v,
        Tensor<T> weight,
        in AdamWOptions options,
        long step,
        float gradientScale,
        long firstElement = 0)
        where T : unmanaged
    {
        var count = gradient.Count;
        Expect.That(
            master.Count == count && m.Count == count && v.Count == count && weight.Count == count,
            "gradient, master, m, v and weight must have equally many elements");
        Expect.That(step >= 1, "the first step is 1");
        Expect.That(firstElement >= 0, "elements count from 0");
        if (stream is CpuStream cpu)
        {
            StepCpu(cpu, gradient, master, m, v, weight, new Factors(options, step, gradientScale), firstElement);
        }
        else if (stream is CudaStream cuda)
        {
            StepCuda(cuda, gradient, master, m, v, weight, new Factors(options, step, gradientScale), firstElement);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Reads gradient, master, m and v; writes master, m, v and weight. A division and a root are counted as one operation each.</summary>
    public static Cost StepCost<T>(long elements)
        where T : unmanaged => new((28 + Unsafe.SizeOf<T>()) * elements, 15 * elements);

    /// <summary>What the inner loop multiplies by, each computed in double and rounded once.</summary>
    private readonly struct Factors
    {
        public Factors(in AdamWOptions options, long step, float gradientScale)
        {
            Gradient = gradientScale;
            Keep = (float)(1 - (options.LearningRate * options.WeightDecay));
            OneMinusBeta1 = (float)(1 - options.Beta1);
            Beta2 = (float)options.Beta2;
            OneMinusBeta2 = (float)(1 - options.Beta2);
            MinusRate = (float)(-options.LearningRate / (1 - Math.Pow(options.Beta1, step)));
            RootScale = (float)(1 / Math.Sqrt(1 - Math.Pow(options.Beta2, step)));
            Epsilon = (float)options.Epsilon;
            Stochastic = options.StochasticRounding.HasValue;
            Key = options.StochasticRounding is { } seed ? StochasticRounding.Key(seed, step) : 0;
        }

        public float Gradient { get; }

        public float Keep { get; }

        public float OneMinusBeta1 { get; }

        public float Beta2 { get; }

        public float OneMinusBeta2 { get; }

        public float MinusRate { get; }

        public float RootScale { get; }

        public float Epsilon { get; }

        public bool Stochastic { get; }

        public ulong Key { get; }
    }
}
