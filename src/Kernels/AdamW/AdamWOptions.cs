namespace Z1Coder.Kernels;

/// <summary>The hyper-parameters of one AdamW step; the defaults are those of torch but for the decay, which is none.</summary>
/// <param name="LearningRate">of this step, after the schedule</param>
/// <param name="Beta1">decay of the first moment</param>
/// <param name="Beta2">decay of the second moment</param>
/// <param name="Epsilon">added to √v̂</param>
/// <param name="WeightDecay">decoupled: times the learning rate, of the weight itself; pass 0 for parameters that do not decay</param>
/// <param name="StochasticRounding">null rounds the weight to nearest even. A seed, another for each tensor, rounds it up or down at random:
/// the bits are a function of (seed, step, element), and <see cref="Cast.RoundStochastic"/> repeats them</param>
public readonly record struct AdamWOptions(
    double LearningRate, double Beta1 = 0.9, double Beta2 = 0.999, double Epsilon = 1e-8, double WeightDecay = 0,
    ulong? StochasticRounding = null);
