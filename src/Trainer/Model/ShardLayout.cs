namespace Z1Coder.Trainer.Model;

/// <summary>
/// Where each parameter lies when the model is cut into equal shards. A unit's blocks stand one after another in a flat run, each at a
/// multiple of <see cref="BlockAlignment"/> elements, padded so that it divides by any number of shards; shard s is the s-th part of every
/// unit. Padding holds zeros: its gradient is zero and AdamW keeps it so.
/// </summary>
public sealed class ShardLayout
{
    /// <summary>Blocks begin at multiples of this many elements: 256 bytes of bf16, what device kernels want.</summary>
    public const int BlockAlignment = 128;

    /// <summary>Shards begin at multiples of this many elements, so that sums over such chunks do not depend on the number of shards.</summary>
    public const int NormChunk = 1024;

    /// <summary>The unit of the embedding: the first.</summary>
    public const int Embedding = 0;

    private readonly int[] _offsets, _unitOf;

    /// <summary>Lays <paramref name="parameters"/> out in <paramref name="shards"/> equal parts.</summary>
    /// <param name="parameters">what there is</param>
    /// <param name="shards">equal parts of every unit</param>
    /// <param name="split">each shard again divides by this many, at multiples of <see cref="NormChunk"/>: for sums that replicas share out</param>
    public ShardLayout(Qwen2Parameters parameters, int shards, int split = 1)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        ArgumentOutOfRangeException.ThrowIfLessThan(shards, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(split, 1);
        (Parameters, Shards) = (parameters, shards);
        _offsets = new int[parameters.Blocks.Count];
        _unitOf = new int[parameters.Blocks.Count];
        var units = new List<ShardUnit>();
        var first = 0;
        Add("embedding", parameters.Embedding + 1);
        for (var l = 0; l < parameters.Layers.Length; l++)
        {
            Add($"layer {l}", parameters.Layers[l].Down + 1);
        }

        Add("head", parameters.Blocks.Count);
        Units = units;

        void Add(string name, int end)
        {
            long at = 0;
            var start = first;
            for (; first < end; first++)
            {
                (_offsets[first], _unitOf[first]) = (checked((int)at), units.Count);
                at = RoundUp(at + parameters.Blocks[first].Shape.Count, BlockAlignment);
            }

            units.Add(new ShardUnit(name, start, end - start, checked((int)RoundUp(at, (long)shards * split * NormChunk))));
        }
    }

    /// <summary>What is laid out.</summary>
    public Qwen2Parameters Parameters { get; }

    /// <summary>Equal parts of every unit.</summary>
    public int Shards { get; }

    /// <summary>In the order of the forward pass: embedding, layers, head (the final norm, and the LM head unless it is tied).</summary>
    public IReadOnlyList<ShardUnit> Units { get; }

    /// <summary>The unit of the final norm and, unless it is tied, the LM head: the last.</summary>
    public int Head => Units.Count - 1;

    /// <summary>The unit of a decoder layer.</summary>
    public static int Layer(int layer) => layer + 1;

    /// <summary>The place in a <see cref="ParameterSet{T}"/> of windows that a unit uses: even layers share one, odd layers another, embedding and
    /// head have their own. Named by the first unit that uses it.</summary>
    public int WindowOf(int unit) => unit == Embedding || unit == Head ? unit : Layer((unit - Layer(0)) % 2);

    /// <summary>The unit that a block lies in.</summary>
    public int UnitOf(int block) => _unitOf[block];

    /// <summary>The first element of a block, counted in its unit.</summary>
    public int OffsetOf(int block) => _offsets[block];

    /// <summary>Elements of one shard of a unit.</summary>
    public int ShardElements(int unit) => Units[unit].Elements / Shards;

    /// <summary>The parts of a unit's blocks that lie in a shard, in order.</summary>
    public IEnumerable<ShardPiece> Pieces(int unit, int shard)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(shard);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(shard, Shards);
        var (size, u) = (ShardElements(unit), Units[unit]);
        var (from, to) = ((long)size * shard, (long)size * (shard + 1));
        for (var block = u.FirstBlock; block < u.FirstBlock + u.BlockCount; block++)
        {
            long begin = _offsets[block], end = begin + Parameters.Blocks[block].Shape.Count;
            var (first, last) = (Math.Max(begin, from), Math.Min(end, to));
            if (first < last)
            {
                yield return new ShardPiece(block, (int)(first - begin), (int)(first - from), (int)(last - first));
            }
        }
    }

    private static long RoundUp(long value, long multiple) => (value + multiple - 1) / multiple * multiple;
}
