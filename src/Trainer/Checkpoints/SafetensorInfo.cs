namespace Z1Coder.Trainer.Checkpoints;

/// <summary>What a safetensors header says about one tensor; also how a tensor is declared to <see cref="SafetensorsWriter"/>.</summary>
public sealed class SafetensorInfo
{
    /// <summary>A declaration: the writer decides where the bytes lie.</summary>
    public SafetensorInfo(string name, SafetensorDtype dtype, params IReadOnlyList<long> shape)
        : this(name, dtype, shape, offset: 0)
    {
    }

    internal SafetensorInfo(string name, SafetensorDtype dtype, IReadOnlyList<long> shape, long offset)
    {
        Name = name;
        Dtype = dtype;
        Shape = shape;
        Count = 1;
        foreach (var extent in shape)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(extent);
            Count = checked(Count * extent);
        }

        Bytes = checked(Count * dtype.Size());
        Offset = offset;
    }

    /// <summary>The parameter name, as HF spells it.</summary>
    public string Name { get; }

    /// <summary>Type of the elements as stored.</summary>
    public SafetensorDtype Dtype { get; }

    /// <summary>Extents, row-major; empty for a scalar.</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>Elements in all.</summary>
    public long Count { get; }

    /// <summary>Bytes in all.</summary>
    public long Bytes { get; }

    /// <summary>First byte, counted from the start of the file; 0 in a declaration.</summary>
    public long Offset { get; }

    /// <summary>"name BF16 [2, 3]".</summary>
    public override string ToString() => $"{Name} {Dtype.HeaderName()} [{string.Join(", ", Shape)}]";
}
