namespace Z1Coder.Runtime;

/// <summary>What a group of ranks was asked to do, as rings and headers name it.</summary>
internal enum CollectiveOperation : byte
{
    None,
    AllReduce,
    ReduceScatter,
    AllGather,
    AllToAll,
    Broadcast,
    HostAllReduce,
    Barrier,
    Split,
}
