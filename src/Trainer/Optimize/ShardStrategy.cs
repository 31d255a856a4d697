namespace Z1Coder.Trainer.Optimize;

/// <summary>What of the training state is cut into shards, one for each rank of the shard group.</summary>
public enum ShardStrategy
{
    /// <summary>Nothing: every rank holds everything, gradients are all-reduced.</summary>
    None,

    /// <summary>Master weights and moments (Rajbhandari et al. 2020, arXiv:1910.02054, stage 1).</summary>
    Zero1,

    /// <summary>Reduced gradients too (stage 2); they are reduced after each micro-batch.</summary>
    Zero2,

    /// <summary>Weights too (stage 3): gathered unit by unit before they are used.</summary>
    Fsdp,

    /// <summary>As <see cref="Fsdp"/> within groups of ranks (a node, by default), replicated across the groups.</summary>
    Hybrid,
}
