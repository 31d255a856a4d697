using Z1Coder.Runtime;
using Z1Coder.Kernels;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>Bytes of a training run by role, and the work of its steps, computed by declaring every arena and allocating none.</summary>
/// <param name="Parameters">parameters, a tied embedding counted once</param>
/// <param name="Roles">bytes per arena</param>
/// <param name="FlopsPerStep">forward plus backward of one full step of longest samples</param>
/// <param name="OptimizerBytesPerStep">memory traffic of norm, clip and AdamW, once a step</param>
/// <param name="TokensPerStep">tokens of a step of longest samples</param>
public sealed record TrainPlan(
    long Parameters, IReadOnlyList<(string Role, long Bytes)> Roles, double FlopsPerStep, double OptimizerBytesPerStep, long TokensPerStep)
{
    /// <summary>Bytes of all arenas.</summary>
    public long TotalBytes => Roles.Sum(r => r.Bytes);

    /// <summary>Declares what <paramref name="stage"/> would allocate for <paramref name="config"/>.</summary>
    public static TrainPlan Of(Qwen2Config config, StageRecipe stage, string dtype, ComputeStream stream) => dtype == "fp32"
        ? Of<float>(config, stage, stream)
        : Of<BFloat16>(config, stage, stream);

    /// <summary>Seconds of one step on roofs given: GEMM work at its rate, the optimizer at the copy bandwidth, nothing overlapped.</summary>
    public double SecondsPerStep(double gemmFlopsPerSecond, double bytesPerSecond) =>
        (FlopsPerStep / gemmFlopsPerSecond) + (OptimizerBytesPerStep / bytesPerSecond);

    private static TrainPlan Of<T>(Qwen2Config config, StageRecipe stage, ComputeStream stream)
        where T : unmanaged
    {
        var parameters = new Qwen2Parameters(config);
        using var optimizer = new Optimizer<T>(parameters, stage.Train.AdamW, stage.Train.DecayAll, stream);
        using var activations = new Activations<T>(
            config, stage.Train.MicroBatchTokens, stage.Train.HeadRows, stage.Train.Recompute, stream, training: true, stage.Train.Fp8);
        var roles = optimizer.Arenas.Append(activations.Arena).Select(a => (a.Name, a.Bytes)).ToList();
        var length = stage.Data.MaxLength;
        var tokens = (long)stage.Train.BatchSamples * length;
        var flops = TrainFlops.Of(config, tokens, tokens, (long)stage.Train.BatchSamples * length * length);
        var adamW = parameters.Blocks.Aggregate(default(Cost), (sum, block) => sum + AdamW.StepCost<T>(block.Shape.Count));
        return new TrainPlan(parameters.Count, roles, flops, adamW.Bytes + (4.0 * parameters.Count), tokens);
    }
}
