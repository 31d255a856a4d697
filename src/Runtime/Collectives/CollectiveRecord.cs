namespace Z1Coder.Runtime;

/// <summary>One operation of one group on one rank, as a ring remembers it.</summary>
/// <param name="Group">the group's name; world for all ranks</param>
/// <param name="Sequence">of the group, from 1</param>
/// <param name="Operation">which</param>
/// <param name="Count">elements as the caller gave them: of the data, of a shard, or of what is sent</param>
/// <param name="Element">a code of <see cref="CollectiveElement"/></param>
/// <param name="Root">of a broadcast; otherwise -1</param>
/// <param name="State">how far</param>
/// <param name="Seconds">since it was queued, began or finished, whichever is last</param>
internal readonly record struct CollectiveRecord(
    string Group, long Sequence, CollectiveOperation Operation, long Count, byte Element, int Root, CollectiveState State, double Seconds)
{
    public const string World = "world";

    /// <summary>all-reduce of 1,024 float</summary>
    public static string Describe(CollectiveOperation operation, long count, byte element, int root) => operation switch
    {
        CollectiveOperation.Barrier => "barrier",
        CollectiveOperation.Split => "split",
        CollectiveOperation.Broadcast => $"broadcast from {root} of {count:N0} {CollectiveElement.NameOf(element)}",
        _ => $"{NameOf(operation)} of {count:N0} {CollectiveElement.NameOf(element)}",
    };

    /// <summary>all-reduce #17 of 1,024 float, with the group where it is not the world.</summary>
    public string Phrase
    {
        get
        {
            var (name, rest) = (Describe(Operation, Count, Element, Root), "");
            if (name.IndexOf(' ') is var space and > 0)
            {
                (name, rest) = (name[..space], name[space..]);
            }

            return $"{name} #{Sequence}{rest}{(Group == World ? "" : $" of group {Group}")}";
        }
    }

    /// <summary>One line of a dump.</summary>
    public override string ToString() => $"{Phrase}: {State switch
    {
        CollectiveState.Queued => "queued",
        CollectiveState.Running => "running for",
        _ => "done",
    }} {Seconds:F3} s{(State == CollectiveState.Running ? "" : " ago")}";

    private static string NameOf(CollectiveOperation operation) => operation switch
    {
        CollectiveOperation.AllReduce => "all-reduce",
        CollectiveOperation.ReduceScatter => "reduce-scatter",
        CollectiveOperation.AllGather => "all-gather",
        CollectiveOperation.AllToAll => "all-to-all",
        CollectiveOperation.HostAllReduce => "host-all-reduce",
        _ => "nothing",
    };
}
