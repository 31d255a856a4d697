using Z1Coder.Runtime;
using Z1Coder.Kernels;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>Bytes of a training run by role, of one rank, and the work of its steps, computed by declaring every arena and allocating
/// none.</summary>
/// <param name="Parameters">parameters of the model, a tied embedding counted once</param>
/// <param name="Roles">bytes per arena, in the memory of the device</param>
/// <param name="HostRoles">bytes per arena that is in host memory wherever the run is: the copy that checkpoints are written from, what is
/// offloaded</param>
/// <param name="FlopsPerStep">forward plus backward of one full step of longest samples, all ranks</param>
/// <param name="OptimizerBytesPerStep">memory traffic of norm, clip and AdamW on this rank's shard, once a step</param>
/// <param name="TokensPerStep">tokens of a step of longest samples, all ranks</param>
public sealed record TrainPlan(
    long Parameters, IReadOnlyList<(string Role, long Bytes)> Roles, IReadOnlyList<(string Role, long Bytes)> HostRoles,
    double FlopsPerStep,
    double OptimizerBytesPerStep, long TokensPerStep)
{
    /// <summary>Bytes of all arenas in the memory of the device.</summary>
    public long TotalBytes => Roles.Sum(r => r.Bytes);

    /// <summary>Bytes of all arenas in host memory.</summary>
    public long HostBytes => HostRoles.Sum(r => r.Bytes);

    /// <summary>Declares what <paramref name="stage"/> would allocate for <paramref name="config"/> on one rank of
    /// <paramref name="parallelism"/>,
    /// which may be a plan without ranks; null is one rank alone.</summary>
    public static TrainPlan Of(Qwen2Config config, StageRecipe stage, string dtype, ComputeStream stream, Parallelism? parallelism = null)
    {
        ArgumentNullException.ThrowIfNull(stage);
        var world = parallelism ?? Parallelism.Planned(stage.Parallel, size: 1);
        return dtype == "fp32" ? Of<float>(config, stage, stream, world) : Of<BFloat16>(config, stage, stream, world);
    }

    /// <summary>Seconds of one step on roofs given: GEMM work at its rate, the optimizer at the copy bandwidth, nothing
    /// overlapped.</summary>
    public double SecondsPerStep(double gemmFlopsPerSecond, double bytesPerSecond) =>
        (FlopsPerStep / gemmFlopsPerSecond) + (OptimizerBytesPerStep / bytesPerSecond);

    private static TrainPlan Of<T>(Qwen2Config config, StageRecipe stage, ComputeStream stream, Parallelism parallelism)
        where T : unmanaged
    {
        var parameters = new Qwen2Parameters(config);
        using var optimizer = new Optimizer<T>(parameters, stage.Train.AdamW, stage.Train.DecayAll, parallelism, stream);
        using var activations = new Activations<T>(
            config, stage.Train.MicroBatchTokens, stage.Train.HeadRows, stage.Train.Recompute, stream, training: true, stage.Train.Fp8);
        var roles = optimizer.Arenas.Except(optimizer.HostArenas).Append(activations.Arena).Select(a => (a.Name, a.Bytes)).ToList();
        if (stage.Eval.Tasks is not null && !optimizer.Weights.IsWhole)
        {
            using var whole = new ParameterSet<T>("gathered weights", optimizer.Layout, stream);       // while pass@1 is measured
            roles.Add((whole.Arena.Name, whole.Arena.Bytes));
        }

        var hostRoles = optimizer.HostArenas.Select(a => (a.Name, a.Bytes)).ToList();
        if (stage.Checkpoint.Async)
        {
            using var copy = CheckpointWriter.DeclareCopy(TrainCheckpoint.PartOf(optimizer.Layout, parallelism), TrainCheckpoint.Roles,
                stream);
            hostRoles.Add((copy.Name, copy.Bytes));
        }

        var length = stage.Data.MaxLength;
        var tokens = (long)stage.Train.BatchSamples * length;
        var flops = TrainFlops.Of(config, tokens, tokens, (long)stage.Train.BatchSamples * length * length);
        var shard = optimizer.Layout.Units.Sum(u => (long)u.Elements / optimizer.Layout.Shards);
        return new TrainPlan(
            parameters.Count, roles, hostRoles, flops, AdamW.StepCost<T>(shard).Bytes + (4.0 * shard), tokens);
    }
}
