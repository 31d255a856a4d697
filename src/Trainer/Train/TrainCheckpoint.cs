using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>The whole state of a stage in a checkpoint: fp32 master weights and both moments under their Hugging Face names, and the
/// progress. The compute weights are not stored: they are the master, rounded.</summary>
public static class TrainCheckpoint
{
    private const string Progress = "progress.json";

    /// <summary>Writes and publishes the state after <c>progress.Step</c> steps.</summary>
    public static void Save<T>(CheckpointStore store, Optimizer<T> optimizer, TrainProgress progress, string fingerprint)
        where T : unmanaged =>
        store.Save(new CheckpointInfo(progress.Step, WorldSize: 1, fingerprint), draft =>
        {
            foreach (var (name, set) in Sets(optimizer))
            {
                draft.Write(name, stream =>
                {
                    var tensors = set.ByName.Select(p => HfTensor.From(p.Parameter.Name, Whole(p.Parameter, p.Tensor), SafetensorDtype.F32).Info).ToList();
                    var writer = new SafetensorsWriter(stream, tensors);
                    foreach (var (parameter, _, tensor) in set.ByName)
                    {
                        writer.Write(parameter.Name, tensor);
                    }

                    writer.Complete();
                });
            }

            draft.Write(Progress, progress.ToJson());
        });

    /// <summary>Reads the state back into allocated tensors.</summary>
    /// <exception cref="InvalidInputException">the checkpoint is of another model</exception>
    public static TrainProgress Load<T>(Checkpoint checkpoint, Optimizer<T> optimizer, string fingerprint, ComputeStream device)
        where T : unmanaged
    {
        if (checkpoint.Info.ModelFingerprint != fingerprint)
        {
            throw new InvalidInputException(
                $"{checkpoint.Directory}: a checkpoint of another model ({checkpoint.Info.ModelFingerprint}); this run trains {fingerprint}");
        }

        foreach (var (name, set) in Sets(optimizer))
        {
            using var file = SafetensorsFile.Open(checkpoint.PathOf(name));
            foreach (var (parameter, first, tensor) in set.ByName)
            {
                HostPieces.Fill(tensor, (start, piece) => file.Read(parameter.Name, first + start, piece));
            }
        }

        using var stream = checkpoint.OpenRead(Progress);
        var progress = TrainProgress.FromJson(stream, checkpoint.PathOf(Progress));
        optimizer.PublishMaster(device, progress.Applied);
        return progress;
    }

    private static Tensor<float> Whole(Parameter parameter, Tensor<float> flat) =>
        parameter.Shape.Rank == 1 ? flat : flat.Reshape(parameter.Shape[0], parameter.Shape[1]);

    private static IEnumerable<(string Name, ShardSet<float> Set)> Sets<T>(Optimizer<T> optimizer)
        where T : unmanaged =>
    [
        ("master.safetensors", optimizer.Master), ("first-moments.safetensors", optimizer.FirstMoments),
        ("second-moments.safetensors", optimizer.SecondMoments),
    ];
}
