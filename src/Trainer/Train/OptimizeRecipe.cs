using Z1Coder.Kernels;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>The `train` section: batch, loss rule, schedule, optimizer, memory.</summary>
/// <param name="Epochs">passes over the data</param>
/// <param name="MaxSteps">ends earlier; 0 means no limit (and the schedule then spans the epochs)</param>
/// <param name="BatchSamples">samples of one optimizer step (the published run's global batch: 1024)</param>
/// <param name="MicroBatchTokens">capacity of one packed forward-backward pass, tokens; at least the longest sample</param>
/// <param name="MicroBatchSamples">0 packs freely; B takes consecutive groups of B samples, as a padded loader would</param>
/// <param name="MicroBatchMean">the loss rule: false is Σ loss / loss tokens of the whole step; true is the mean over micro-batches of each
/// micro-batch's own token mean (transformers before 4.46, the published run)</param>
/// <param name="LastStep">what becomes of an epoch's incomplete last step</param>
/// <param name="LearningRate">peak</param>
/// <param name="Schedule">after the warm-up</param>
/// <param name="WarmupSteps">linear from 0</param>
/// <param name="MinimumLearningRate">end of cosine and linear</param>
/// <param name="WeightDecay">decoupled</param>
/// <param name="DecayAll">norms and biases too</param>
/// <param name="Beta1">AdamW</param>
/// <param name="Beta2">AdamW</param>
/// <param name="Epsilon">AdamW</param>
/// <param name="Clip">largest global gradient norm; 0 means no clipping</param>
/// <param name="Recompute">what backward computes again</param>
/// <param name="HeadRows">rows of one LM-head chunk</param>
/// <param name="StochasticRounding">compute weights are the master rounded up or down at random, without bias; off rounds to nearest</param>
/// <param name="Fp8">the linear layers of the blocks multiply 8-bit copies (e4m3 forward, e5m2 gradients); needs sm_89 or later on CUDA</param>
public sealed record OptimizeRecipe(
    double Epochs, long MaxSteps, int BatchSamples, int MicroBatchTokens, int MicroBatchSamples, bool MicroBatchMean, LastStep LastStep,
    double LearningRate, ScheduleKind Schedule, int WarmupSteps, double MinimumLearningRate, double WeightDecay, bool DecayAll,
    double Beta1, double Beta2, double Epsilon, double Clip, Recompute Recompute, int HeadRows, bool StochasticRounding = false, bool Fp8 = false)
{
    private const ulong RoundingSeed = 0x5A31_C0DE;      // with block and step it is a stream of its own

    /// <summary>The optimizer's constants; rate and decay are set per step and block.</summary>
    public AdamWOptions AdamW => new(
        LearningRate, Beta1, Beta2, Epsilon, WeightDecay, StochasticRounding ? RoundingSeed : null);

    /// <summary>Reads the section.</summary>
    public static OptimizeRecipe From(RecipeTree tree)
    {
        var microBatchSamples = tree.Int("micro_batch_samples", 0);
        var batch = tree.Int("batch_samples", 1024, 1);
        if (microBatchSamples > batch)
        {
            throw tree.Error("micro_batch_samples", $"is {microBatchSamples}, more than batch_samples {batch}");
        }

        return new OptimizeRecipe(
            tree.Number("epochs", 3), tree.Long("max_steps", 0), batch, tree.Int("micro_batch_tokens", 4096, 2), microBatchSamples,
            tree.Choice("loss", "token-mean", "token-mean", "micro-batch-mean") == "micro-batch-mean",
            ParseLastStep(tree.Choice("last_step", "keep", "keep", "drop", "carry")),
            tree.Number("lr", 5e-5), ParseSchedule(tree.Choice("schedule", "cosine", "cosine", "linear", "constant")),
            tree.Int("warmup_steps", 0), tree.Number("min_lr", 0), tree.Number("weight_decay", 0), tree.Flag("decay_all", false),
            tree.Number("beta1", 0.9, 0, 0.999999), tree.Number("beta2", 0.999, 0, 0.99999999), tree.Number("eps", 1e-8), tree.Number("clip", 1.0),
            ParseRecompute(tree), tree.Int("head_rows", 512, 1), tree.Flag("stochastic_rounding", false), tree.Flag("fp8", false));
    }

    private static LastStep ParseLastStep(string name) => name switch
    {
        "drop" => LastStep.Drop,
        "carry" => LastStep.Carry,
        _ => LastStep.Keep,
    };

    private static ScheduleKind ParseSchedule(string name) => name switch
    {
        "linear" => ScheduleKind.Linear,
        "constant" => ScheduleKind.Constant,
        _ => ScheduleKind.Cosine,
    };

    private static Recompute ParseRecompute(RecipeTree tree)
    {
        var flags = Recompute.None;
        foreach (var name in tree.Texts("recompute"))
        {
            flags |= name switch
            {
                "norm" => Recompute.Norm,
                "swiglu" => Recompute.SwiGlu,
                "block" => Recompute.Block,
                "none" => Recompute.None,
                _ => throw tree.Error("recompute", $"has '{name}', must be of none, norm, swiglu, block"),
            };
        }

        return flags;
    }
}
