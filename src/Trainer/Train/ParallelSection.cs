using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Trainer.Train;

/// <summary>Reads the `parallel` section of a recipe.</summary>
internal static class ParallelSection
{
    private static readonly string[] s_strategies = ["none", "zero1", "zero2", "fsdp", "hybrid"];

    /// <summary>Reads and checks the section; whether it suits the number of ranks is known when they have met.</summary>
    /// <exception cref="Data.InvalidInputException">a value is wrong, or two do not go together</exception>
    public static ParallelRecipe Read(RecipeTree tree)
    {
        var name = tree.Choice("strategy", "none", s_strategies);
        var strategy = (ShardStrategy)Array.IndexOf(s_strategies, name);
        var shardSize = tree.Int("shard_size", 0);
        if (shardSize > 0 && strategy != ShardStrategy.Hybrid)
        {
            throw tree.Error("shard_size", $"is {shardSize}, but strategy {name} has no groups of a size; leave it out, or take hybrid");
        }

        var ordered = tree.Choice("reduce", "fast", "fast", "ordered") == "ordered";
        var always = strategy == ShardStrategy.Zero2;
        var perMicroBatch = tree.Choice("reduce_per", always ? "micro_batch" : "step", "step", "micro_batch") == "micro_batch";
        if (always && !perMicroBatch)
        {
            throw tree.Error("reduce_per", "is step, but zero2 keeps no whole gradients; leave it out, or take zero1");
        }

        if (perMicroBatch && strategy is (ShardStrategy.None or ShardStrategy.Zero1))
        {
            throw tree.Error("reduce_per", $"is micro_batch, but {name} keeps gradients whole; leave it out, or take zero2, fsdp or hybrid");
        }

        return new ParallelRecipe(
            strategy, shardSize, ordered, perMicroBatch, tree.Choice("reduce_dtype", "fp32", "fp32", "bf16") == "bf16",
            tree.Choice("offload", "none", "none", "optimizer") == "optimizer", tree.Number("timeout_seconds", 60));
    }
}
