using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>The compute weights as one Hugging Face directory. Rank 0 writes; sharded weights are gathered unit by unit into the windows
/// that
/// training uses, so that no rank ever holds a second model.</summary>
public static class ModelExport
{
    /// <summary>Writes the directory; every rank calls it, and returns when the directory is published.</summary>
    /// <param name="directory">of rank 0</param>
    /// <param name="optimizer">whose weights</param>
    /// <param name="stream">where they are gathered</param>
    /// <param name="dtype">of the file: F32 or BF16</param>
    /// <param name="tokenizerSource">whose tokenizer files are copied</param>
    /// <param name="eosTokenIds">tokens that end a generation</param>
    /// <param name="maxShardBytes">a file holds at most this many bytes of tensors, or one tensor</param>
    /// <exception cref="InvalidInputException">on every rank: rank 0 could not write</exception>
    public static void Save<T>(
        string directory, Optimizer<T> optimizer, ComputeStream stream, SafetensorDtype dtype, string? tokenizerSource,
        IReadOnlyList<int>? eosTokenIds,
        long maxShardBytes = HfDirectory.DefaultShardBytes)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(optimizer);
        var (world, layout) = (optimizer.Parallelism.World, optimizer.Layout);
        if (world.Rank > 0)
        {
            for (var unit = 0; unit < layout.Units.Count; unit++)
            {
                Enter(unit);
            }

            Agree(world, failed: false);
            return;
        }

        var entered = -1;
        try
        {
            var tensors = new List<HfTensor>();
            for (var block = 0; block < layout.Parameters.Blocks.Count; block++)
            {
                var unit = layout.UnitOf(block);
                foreach (var (parameter, view) in layout.Parameters.Blocks[block].Split(optimizer.Weights[block]))
                {
                    var tensor = HfTensor.From(parameter.Name, view, dtype);
                    tensors.Add(tensor with
                    {
                        Write = writer =>
                        {
                            for (; entered < unit; entered++)
                            {
                                Enter(entered + 1);
                            }

                            tensor.Write(writer);
                        },
                    });
                }
            }

            HfDirectory.Save(directory, layout.Parameters.Config, tensors, tokenizerSource, eosTokenIds, maxShardBytes);
        }
        catch (Exception e) when (e is not CollectiveException)
        {
            try
            {
                Agree(world, failed: true);
            }
            catch (InvalidInputException)
            {
                // what the others are told; here the cause is at hand
            }

            throw;
        }

        Agree(world, failed: false);

        void Enter(int unit)
        {
            Agree(world, failed: false);
            optimizer.Traffic.Use(stream, unit);
        }
    }

    private static void Agree(ICollective world, bool failed)
    {
        Span<double> verdict = [failed ? 1 : 0];
        world.AllReduce(verdict, Reduction.Max);
        if (verdict[0] > 0)
        {
            throw new InvalidInputException("rank 0 could not write the model; its own message says why");
        }
    }
}
