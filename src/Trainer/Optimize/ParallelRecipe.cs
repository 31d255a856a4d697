namespace Z1Coder.Trainer.Optimize;

/// <summary>The `parallel` section: how the training state is spread over ranks. How many ranks there are is never part of a recipe, so that a
/// run may go on with another number.</summary>
/// <param name="Strategy">what is cut into shards</param>
/// <param name="ShardSize">ranks of a shard group of <see cref="ShardStrategy.Hybrid"/>; 0 takes the ranks of a node</param>
/// <param name="Ordered">gradients, loss and norm are added in the order of micro-batches, whichever rank computed them: the same bits for any
/// number of ranks and any strategy, at the price of an exchange of every gradient in each round of micro-batches</param>
/// <param name="ReducePerMicroBatch">gradients are reduced after each micro-batch and kept as shards, instead of kept whole until the step ends</param>
/// <param name="ReduceBf16">gradients are rounded to bf16 for the way between ranks; sums of micro-batches stay fp32</param>
/// <param name="OffloadOptimizer">master weights and moments in host memory, AdamW on the CPU</param>
/// <param name="TimeoutSeconds">longest wait for the other ranks in one collective operation, s; 0 waits forever</param>
public sealed record ParallelRecipe(
    ShardStrategy Strategy = ShardStrategy.None, int ShardSize = 0, bool Ordered = false, bool ReducePerMicroBatch = false, bool ReduceBf16 = false,
    bool OffloadOptimizer = false, double TimeoutSeconds = 60);
