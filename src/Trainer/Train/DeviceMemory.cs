using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Train;

/// <summary>Refuses a stage that will not fit the device, before the first byte of it is taken: the arenas know what they will ask
/// for.</summary>
internal static class DeviceMemory
{
    /// <summary>Compares what the arenas declare with what the device has free. A host's memory is left to the system.</summary>
    /// <exception cref="InvalidInputException">too much; names every role, what is free and the recipe keys that reduce it</exception>
    public static void Expect(ComputeStream stream, IEnumerable<Arena> arenas, string stage)
    {
        if (stream is not CudaStream cuda)
        {
            return;
        }

        var roles = arenas.Where(a => a.Device is not null).ToList();
        var (wanted, free) = (roles.Sum(a => a.Bytes), cuda.Device.FreeBytes);
        if (wanted > free)
        {
            throw new InvalidInputException(
                $"{stage} needs {Gib(wanted)} on {cuda.Device.Name}, which has {Gib(free)} free ({string.Join(", ", roles.Select(a => $"{a.Name} {Gib(a.Bytes)}"))}); "
                + "lower train.micro_batch_tokens or train.head_rows, or set train.recompute to [norm, swiglu] or [block], "
                + "or shard over more ranks with parallel.strategy: z1 plan --gpus compares them");
        }
    }

    private static string Gib(long bytes) => $"{bytes / (double)(1 << 30):F2} GiB";
}
