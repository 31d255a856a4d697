using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Optimize;

/// <summary>
/// A world of N ranks as (shard group of S) x (replica group of R), S · R = N. Ranks of a shard group are consecutive: rank = replica · S + shard.
/// none: S = 1; zero1, zero2, fsdp: S = N; hybrid: S = ranks of a node or as the recipe says. One rank is all of it with N = 1.
/// </summary>
public sealed class Parallelism : IDisposable
{
    private readonly ICollective? _world, _shards, _replicas;
    private readonly bool _ownsWorld;

    /// <summary>Forms the groups; every rank calls it at the same place. The caller keeps <paramref name="world"/>.</summary>
    /// <param name="world">all ranks</param>
    /// <param name="recipe">how to spread over them</param>
    /// <param name="localSize">ranks of this node, for <see cref="ShardStrategy.Hybrid"/></param>
    /// <exception cref="InvalidInputException">the number of ranks does not divide into shard groups</exception>
    public Parallelism(ICollective world, ParallelRecipe recipe, int localSize = 1)
        : this(recipe, Checked(world).Size, world.Rank, localSize)
    {
        _world = world;
        _shards = world.Split(Replica, "shards");
        _replicas = world.Split(Shard, "replicas");
    }

    private Parallelism(ParallelRecipe recipe, int size, int rank, int localSize)
    {
        Recipe = recipe;
        var wanted = recipe.ShardSize > 0 ? recipe.ShardSize : localSize;
        ShardCount = recipe.Strategy switch
        {
            ShardStrategy.None => 1,
            ShardStrategy.Hybrid => wanted,
            _ => size,
        };
        if (ShardCount < 1 || size % ShardCount != 0)
        {
            throw new InvalidInputException(
                $"parallel.strategy hybrid shards over {ShardCount} ranks ({(recipe.ShardSize > 0 ? "parallel.shard_size" : "the ranks of a node")}), "
                + $"which does not divide the {size} ranks of this run; set parallel.shard_size to a divisor, or take fsdp");
        }

        (Size, Rank, ReplicaCount) = (size, rank, size / ShardCount);
        (Shard, Replica) = (rank % ShardCount, rank / ShardCount);
    }

    private Parallelism(ICollective owned)
        : this(owned, new ParallelRecipe()) => _ownsWorld = true;

    /// <summary>The recipe's part.</summary>
    public ParallelRecipe Recipe { get; }

    /// <summary>N, ranks in all.</summary>
    public int Size { get; }

    /// <summary>This rank, from 0.</summary>
    public int Rank { get; }

    /// <summary>S, ranks that share one copy of what is sharded.</summary>
    public int ShardCount { get; }

    /// <summary>R, copies.</summary>
    public int ReplicaCount { get; }

    /// <summary>Which shard is this rank's.</summary>
    public int Shard { get; }

    /// <summary>Which copy this rank belongs to.</summary>
    public int Replica { get; }

    /// <summary>Whether there are ranks to speak to; false for a plan.</summary>
    public bool HasRanks => _world is not null;

    /// <summary>All ranks.</summary>
    public ICollective World => _world ?? throw NoRanks();

    /// <summary>The ranks that hold the other shards of this copy.</summary>
    public ICollective Shards => _shards ?? throw NoRanks();

    /// <summary>The ranks that hold this shard in the other copies.</summary>
    public ICollective Replicas => _replicas ?? throw NoRanks();

    /// <summary>Whether compute weights are kept as shards and gathered for use.</summary>
    public bool ShardsWeights => Recipe.Strategy is ShardStrategy.Fsdp or ShardStrategy.Hybrid;

    /// <summary>Whether gradients live in windows and leave them after each micro-batch.</summary>
    public bool ReducesPerMicroBatch => Recipe.Ordered || Recipe.ReducePerMicroBatch || Recipe.Strategy == ShardStrategy.Zero2;

    /// <summary>One rank, nothing sharded.</summary>
    public static Parallelism Alone() => new(new SelfCollective());

    /// <summary>For plans: rank <paramref name="rank"/> of a world that is not there. Its groups throw.</summary>
    /// <exception cref="InvalidInputException">the number of ranks does not divide into shard groups</exception>
    public static Parallelism Planned(ParallelRecipe recipe, int size, int rank = 0, int localSize = 1) => new(recipe, size, rank, localSize);

    /// <summary>Leaves the two groups; the world stays.</summary>
    public void Dispose()
    {
        _shards?.Dispose();
        _replicas?.Dispose();
        if (_ownsWorld)
        {
            _world!.Dispose();
        }
    }

    private static ICollective Checked(ICollective world)
    {
        ArgumentNullException.ThrowIfNull(world);
        return world;
    }

    private static InvalidOperationException NoRanks() => new("this parallelism is a plan; it has no ranks to speak to");
}
