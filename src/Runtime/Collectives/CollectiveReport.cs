using System.Text;

namespace Z1Coder.Runtime;

/// <summary>What one rank knows when a time-out is looked into: the tails of its rings.</summary>
/// <param name="Rank">of the job</param>
/// <param name="Where">host and process, in words; empty for ranks of one process</param>
/// <param name="Records">of all its groups</param>
internal sealed record CollectiveReport(int Rank, string Where, IReadOnlyList<CollectiveRecord> Records)
{
    private const int MostRecords = 4096;

    /// <summary>The ring as lines, for standard error.</summary>
    public string Dump(string why)
    {
        var text = new StringBuilder();
        text.Append($"rank {Rank}{(Where.Length == 0 ? "" : $" ({Where})")}: {why}; its recent collectives:");
        foreach (var record in Records)
        {
            text.Append($"\n  rank {Rank}  {record}");
        }

        if (Records.Count == 0)
        {
            text.Append("\n  none");
        }

        return text.ToString();
    }

    /// <summary>
    /// One sentence on a time-out: who waits in what, who is in no collective and finished what last, who does not answer. Ranks in the
    /// same
    /// place are named together.
    /// </summary>
    public static string Diagnose(IReadOnlyList<CollectiveReport?> reports, double seconds)
    {
        var places = new List<(string Place, bool Waits, List<int> Ranks)>();
        for (var rank = 0; rank < reports.Count; rank++)
        {
            var (place, waits) = PlaceOf(reports[rank]);
            var index = places.FindIndex(p => p.Place == place && p.Waits == waits);
            if (index < 0)
            {
                places.Add((place, waits, []));
                index = places.Count - 1;
            }

            places[index].Ranks.Add(rank);
        }

        var parts = places.OrderByDescending(p => p.Waits).Select(p => p.Ranks.Count == 1
            ? $"rank {p.Ranks[0]} {Singular(p.Place)}"
            : $"ranks {string.Join(',', p.Ranks)} {p.Place}");
        return $"time-out after {seconds:G4} s: {string.Join("; ", parts)}";
    }

    public void Write(BinaryWriter to)
    {
        to.Write(Rank);
        to.Write(Where);
        to.Write(Records.Count);
        foreach (var r in Records)
        {
            to.Write(r.Group);
            to.Write(r.Sequence);
            to.Write((byte)r.Operation);
            to.Write(r.Count);
            to.Write(r.Element);
            to.Write(r.Root);
            to.Write((byte)r.State);
            to.Write(r.Seconds);
        }
    }

    public static CollectiveReport Read(BinaryReader from)
    {
        var (rank, where, count) = (from.ReadInt32(), from.ReadString(), from.ReadInt32());
        if (count is < 0 or > MostRecords)
        {
            throw new InvalidDataException($"a report of {count} records");
        }

        var records = new CollectiveRecord[count];
        for (var i = 0; i < count; i++)
        {
            records[i] = new(
                from.ReadString(), from.ReadInt64(), (CollectiveOperation)from.ReadByte(), from.ReadInt64(),
                from.ReadByte(), from.ReadInt32(),
                (CollectiveState)from.ReadByte(), from.ReadDouble());
        }

        return new(rank, where, records);
    }

    private static (string Place, bool Waits) PlaceOf(CollectiveReport? report)
    {
        if (report is null)
        {
            return ("do not answer", false);
        }

        // the operation waited in longest is the one that holds the others up
        var running = report.Records.Where(r => r.State == CollectiveState.Running).OrderByDescending(r => r.Seconds).ToArray();
        if (running.Length > 0)
        {
            return ($"wait in {running[0].Phrase}", true);
        }

        var done = report.Records.Where(r => r.State == CollectiveState.Done).OrderBy(r => r.Seconds).ToArray();
        return (done.Length > 0 ? $"are in no collective, last finished {done[0].Phrase}"
            : "are in no collective and finished none", false);
    }

    private static string Singular(string place) =>
        place.StartsWith("wait ", StringComparison.Ordinal) ? $"waits {place[5..]}"
        : place.StartsWith("are ", StringComparison.Ordinal) ? $"is {place[4..]}"
        : $"does{place[2..]}";
}
