using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>
/// Clip by global norm, then AdamW on fp32 master weights; the compute weights are the master rounded to T. With T = float the compute
/// weights are the master themselves and take no memory of their own.
/// </summary>
/// <typeparam name="T">storage of the compute weights</typeparam>
public sealed class Optimizer<T> : IDisposable
    where T : unmanaged
{
    private readonly ParameterSet<float>? _separateMaster;
    private readonly AdamWOptions _options;
    private readonly bool _decayAll;

    /// <summary>Declares weights, gradients, master and moments; takes no memory yet.</summary>
    /// <param name="parameters">what there is to train</param>
    /// <param name="options">betas, eps, weight decay</param>
    /// <param name="decayAll">decay norms and biases too</param>
    /// <param name="stream">whose memory everything is; null takes the host's</param>
    public Optimizer(Qwen2Parameters parameters, AdamWOptions options, bool decayAll, ComputeStream? stream = null)
    {
        _options = options;
        _decayAll = decayAll;
        Weights = new ParameterSet<T>("weights", parameters, stream);
        if (Weights is ParameterSet<float> shared)
        {
            Master = shared;
        }
        else
        {
            Master = _separateMaster = new ParameterSet<float>("master weights", parameters, stream);
        }

        Gradients = new ParameterSet<float>("gradients", parameters, stream);
        FirstMoments = new ParameterSet<float>("first moments", parameters, stream);
        SecondMoments = new ParameterSet<float>("second moments", parameters, stream);
    }

    /// <summary>What the model computes with.</summary>
    public ParameterSet<T> Weights { get; }

    /// <summary>fp32 weights; the truth that checkpoints hold.</summary>
    public ParameterSet<float> Master { get; }

    /// <summary>fp32 gradients of the step under way.</summary>
    public ParameterSet<float> Gradients { get; }

    /// <summary>AdamW's m.</summary>
    public ParameterSet<float> FirstMoments { get; }

    /// <summary>AdamW's v.</summary>
    public ParameterSet<float> SecondMoments { get; }

    /// <summary>Every arena, for plans.</summary>
    public IEnumerable<Arena> Arenas
    {
        get
        {
            yield return Weights.Arena;
            if (_separateMaster is not null)
            {
                yield return _separateMaster.Arena;
            }

            yield return Gradients.Arena;
            yield return FirstMoments.Arena;
            yield return SecondMoments.Arena;
        }
    }

    /// <summary>Takes the memory; everything reads as zero.</summary>
    public void Allocate()
    {
        foreach (var arena in Arenas)
        {
            arena.Allocate();
        }
    }

    /// <summary>Rounds the master into the compute weights: after loading or initialising it.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="applied">steps applied to this master: with stochastic rounding the rounding of the last one is repeated</param>
    public void PublishMaster(ComputeStream stream, long applied = 0)
    {
        for (var i = 0; i < Weights.Tensors.Length && _separateMaster is not null; i++)
        {
            if (_options.StochasticRounding is { } seed && applied > 0)
            {
                Cast.RoundStochastic(stream, _separateMaster.Tensors[i], Weights.Tensors[i], seed + (ulong)i, applied);
            }
            else
            {
                Cast.Round(stream, _separateMaster.Tensors[i], Weights.Tensors[i]);
            }
        }
    }

    /// <summary>The global L2 norm of the gradients: not finite when any gradient is not.</summary>
    public double GradientNorm(ComputeStream stream) => Math.Sqrt(GlobalNorm.SumOfSquares(stream, Gradients.Tensors));

    /// <summary>One AdamW step on every block.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="step">1 for the first step: bias correction</param>
    /// <param name="learningRate">the rate of this step</param>
    /// <param name="gradientScale">the clip factor; gradients are multiplied by it on the way in</param>
    public void Step(ComputeStream stream, long step, double learningRate, double gradientScale)
    {
        var blocks = Master.Parameters.Blocks;
        for (var i = 0; i < blocks.Count; i++)
        {
            var options = _options with
            {
                LearningRate = learningRate,
                WeightDecay = blocks[i].Decay || _decayAll ? _options.WeightDecay : 0,
                StochasticRounding = _options.StochasticRounding + (ulong)i,
            };
            AdamW.Step(
                stream, Gradients.Tensors[i], Master.Tensors[i], FirstMoments.Tensors[i], SecondMoments.Tensors[i], Weights.Tensors[i],
                options, step, (float)gradientScale);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var arena in Arenas)
        {
            arena.Dispose();
        }
    }
}
