using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>One shard of every unit, each a flat tensor: master weights, moments and reduced gradients are each such a set. It has an arena of
/// its own, or is the part of a whole <see cref="ParameterSet{T}"/> that this shard owns.</summary>
/// <typeparam name="T">storage</typeparam>
public sealed class ShardSet<T> : IDisposable
    where T : unmanaged
{
    private readonly Tensor<T>[] _units;
    private readonly bool _ownsArena;

    /// <summary>Declares shard <paramref name="shard"/> under the role <paramref name="name"/>; takes no memory yet.</summary>
    /// <param name="name">role</param>
    /// <param name="layout">units and shards</param>
    /// <param name="shard">which shard this is</param>
    /// <param name="stream">whose memory it is; null takes the host's</param>
    /// <param name="onHost">host memory that the stream copies from and to, instead of its own</param>
    public ShardSet(string name, ShardLayout layout, int shard, ComputeStream? stream = null, bool onHost = false)
    {
        ArgumentNullException.ThrowIfNull(layout);
        CheckShard(layout, shard);
        (Layout, Shard, _ownsArena) = (layout, shard, true);
        Arena = stream is null ? new Arena(name) : onHost ? stream.CreateHostArena(name) : stream.CreateArena(name);
        _units = [.. Enumerable.Range(0, layout.Units.Count).Select(u => Arena.Declare<T>(layout.ShardElements(u)))];
    }

    /// <summary>The part of <paramref name="whole"/> that shard <paramref name="shard"/> owns; the memory stays the other's.</summary>
    /// <exception cref="ArgumentException">a set of windows has no such part</exception>
    public ShardSet(ParameterSet<T> whole, int shard)
    {
        ArgumentNullException.ThrowIfNull(whole);
        CheckShard(whole.Layout, shard);
        if (!whole.IsWhole)
        {
            throw new ArgumentException($"'{whole.Arena.Name}' is a set of windows; it holds no shard of every unit", nameof(whole));
        }

        (Layout, Shard, Arena) = (whole.Layout, shard, whole.Arena);
        _units = new Tensor<T>[Layout.Units.Count];
        for (var u = 0; u < _units.Length; u++)
        {
            var size = Layout.ShardElements(u);
            _units[u] = whole.Units[u].Rows(size * shard, size);
        }
    }

    /// <summary>Units and shards.</summary>
    public ShardLayout Layout { get; }

    /// <summary>Which shard this is.</summary>
    public int Shard { get; }

    /// <summary>The memory that holds it; of the whole set where this is a part of one.</summary>
    public Arena Arena { get; }

    /// <summary>One flat tensor per unit, padding included.</summary>
    public ReadOnlySpan<Tensor<T>> Units => _units;

    /// <summary>The elements of a piece of this shard.</summary>
    public Tensor<T> this[in ShardPiece piece] => _units[Layout.UnitOf(piece.Block)].Rows(piece.ShardStart, piece.Count);

    /// <summary>What this shard holds of each parameter, flat: its elements from <c>Start</c> on. Parameters of which it holds nothing are left out.</summary>
    public IEnumerable<(Parameter Parameter, long Start, Tensor<T> Tensor)> ByName
    {
        get
        {
            for (var unit = 0; unit < _units.Length; unit++)
            {
                foreach (var piece in Layout.Pieces(unit, Shard))
                {
                    long first = 0;
                    foreach (var part in Layout.Parameters.Blocks[piece.Block].Parts)
                    {
                        var begin = Math.Max(first, piece.BlockStart);
                        var end = Math.Min(first + part.Shape.Count, (long)piece.BlockStart + piece.Count);
                        if (begin < end)
                        {
                            yield return (part, begin - first, _units[unit].Rows(piece.ShardStart + (int)(begin - piece.BlockStart), (int)(end - begin)));
                        }

                        first += part.Shape.Count;
                    }
                }
            }
        }
    }

    /// <summary>Frees the memory where it is this set's own.</summary>
    public void Dispose()
    {
        if (_ownsArena)
        {
            Arena.Dispose();
        }
    }

    private static void CheckShard(ShardLayout layout, int shard)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(shard);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(shard, layout.Shards);
    }
}
