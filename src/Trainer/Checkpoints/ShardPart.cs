using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// What one rank writes. A world of N ranks is S shards times R replicas; every replica of a shard holds the same values, so each writes
/// the R-th part of it: of unit u, elements [E·r/R, E·(r+1)/R) of the E that a shard has. All parts of all ranks tile the model once.
/// </summary>
/// <param name="Layout">units, and S</param>
/// <param name="Shard">0 to S - 1</param>
/// <param name="Replica">0 to R - 1</param>
/// <param name="Replicas">R</param>
public sealed record ShardPart(ShardLayout Layout, int Shard, int Replica, int Replicas)
{
    /// <summary>Elements [From, To) of the shard of a unit.</summary>
    public (int From, int To) Bounds(int unit)
    {
        long size = Layout.ShardElements(unit);
        return ((int)(size * Replica / Replicas), (int)(size * (Replica + 1) / Replicas));
    }

    /// <summary>The parameters' elements in it, unit by unit, in the order of memory; padding is left out.</summary>
    public IEnumerable<ShardRange> Ranges()
    {
        for (var unit = 0; unit < Layout.Units.Count; unit++)
        {
            foreach (var range in Ranges(unit))
            {
                yield return range;
            }
        }
    }

    private IEnumerable<ShardRange> Ranges(int unit)
    {
        var (from, to) = Bounds(unit);
        foreach (var piece in Layout.Pieces(unit, Shard))
        {
            var start = 0;                                       // of the parameter, counted in its block
            foreach (var parameter in Layout.Parameters.Blocks[piece.Block].Parts)
            {
                var end = start + (int)parameter.Shape.Count;
                var toShard = piece.ShardStart - piece.BlockStart;
                var first = Math.Max(Math.Max(start, piece.BlockStart), from - toShard);
                var last = Math.Min(Math.Min(end, piece.BlockStart + piece.Count), to - toShard);
                if (first < last)
                {
                    yield return new ShardRange(parameter.Name, first - start, unit, first + toShard, last - first);
                }

                start = end;
            }
        }
    }
}
