using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>The whole state of a stage in a checkpoint: fp32 master weights and both moments, each rank its part, and the progress. The
/// compute
/// weights are not stored: they are the master, rounded. Any number of ranks reads it, cut in any way.</summary>
public static class TrainCheckpoint
{
    /// <summary>Kinds of state that every parameter has.</summary>
    public const int Roles = 3;

    private const string Progress = "progress.json";

    /// <summary>The writer of a stage, on every rank; its host copy is declared and not yet allocated.</summary>
    /// <param name="store">where checkpoints lie</param>
    /// <param name="optimizer">the state</param>
    /// <param name="stream">whose tensors they are</param>
    /// <param name="asynchronous">beside the steps, or in place</param>
    public static CheckpointWriter Writer<T>(CheckpointStore store, Optimizer<T> optimizer, ComputeStream stream, bool asynchronous)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(optimizer);
        return new CheckpointWriter(
            store, PartOf(optimizer.Layout, optimizer.Parallelism), RolesOf(optimizer), optimizer.Parallelism.World,
            optimizer.Layout.Parameters.Config.Fingerprint, stream, asynchronous);
    }

    /// <summary>What a rank writes.</summary>
    public static ShardPart PartOf(Model.ShardLayout layout, Parallelism parallelism)
    {
        ArgumentNullException.ThrowIfNull(parallelism);
        return new ShardPart(layout, parallelism.Shard, parallelism.Replica, parallelism.ReplicaCount);
    }

    /// <summary>Starts to save the state after <c>progress.Step</c> steps; see <see cref="CheckpointWriter.Begin"/>.</summary>
    /// <returns>the steps published on the way</returns>
    public static IReadOnlyList<long> Begin(CheckpointWriter writer, TrainProgress progress)
    {
        ArgumentNullException.ThrowIfNull(writer);
        ArgumentNullException.ThrowIfNull(progress);
        return writer.Begin(progress.Step, Progress, progress.ToJson());
    }

    /// <summary>Reads the state back into allocated tensors, on every rank its own part.</summary>
    /// <param name="checkpoint">which</param>
    /// <param name="optimizer">whose tensors</param>
    /// <param name="device">where the compute weights are made from the master</param>
    /// <param name="data">what is going to be trained on; null where nobody asks</param>
    /// <exception cref="InvalidInputException">the checkpoint is of another model or of other data, or does not hold every element once</exception>
    public static TrainProgress Load<T>(Checkpoint checkpoint, Optimizer<T> optimizer, ComputeStream device, DataFingerprint? data = null)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        ArgumentNullException.ThrowIfNull(optimizer);
        var fingerprint = optimizer.Layout.Parameters.Config.Fingerprint;
        if (checkpoint.Info.ModelFingerprint != fingerprint)
        {
            throw new InvalidInputException(
                $"{checkpoint.Directory}: a checkpoint of another model ({checkpoint.Info.ModelFingerprint}); this run trains {fingerprint}");
        }

        using var stream = checkpoint.OpenRead(Progress);
        var progress = TrainProgress.FromJson(stream, checkpoint.PathOf(Progress));
        data?.Expect(progress.Data, checkpoint.Directory);
        foreach (var role in RolesOf(optimizer))
        {
            using var reader = ShardReader.Open(checkpoint, role.Name, optimizer.Layout.Parameters);
            reader.Read(role.Values);
        }

        optimizer.PublishMaster(device, progress.Applied);
        return progress;
    }

    private static ShardRole[] RolesOf<T>(Optimizer<T> optimizer)
        where T : unmanaged =>
        [new("master", optimizer.Master), new("first-moments", optimizer.FirstMoments), new("second-moments", optimizer.SecondMoments)];
}
