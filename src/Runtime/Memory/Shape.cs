namespace Z1Coder.Runtime;

/// <summary>The extents of a row-major tensor, one to four of them, the last one contiguous.</summary>
public readonly struct Shape : IEquatable<Shape>
{
    private readonly int _d0, _d1, _d2, _d3;

    /// <summary>A shape of the extents given; each must be at least 0.</summary>
    /// <exception cref="ArgumentException">no extent, more than four, or a negative one</exception>
    public Shape(params ReadOnlySpan<int> extents)
    {
        if (extents.Length is 0 or > 4 || extents.ContainsAnyExceptInRange(0, int.MaxValue))
        {
            throw new ArgumentException($"a shape has one to four extents, none negative; got [{string.Join(", ", extents.ToArray())}]");
        }

        Rank = extents.Length;
        _d0 = extents[0];
        _d1 = Rank > 1 ? extents[1] : 1;
        _d2 = Rank > 2 ? extents[2] : 1;
        _d3 = Rank > 3 ? extents[3] : 1;
    }

    /// <summary>Number of axes, 1 to 4.</summary>
    public int Rank { get; }

    /// <summary>Elements in all.</summary>
    public long Count => (long)_d0 * _d1 * _d2 * _d3;

    /// <summary>Product of all axes but the last.</summary>
    public int Rows => checked((int)(Count == 0 ? RowsOfEmpty() : Count / Columns));

    /// <summary>The last axis.</summary>
    public int Columns => this[Rank - 1];

    /// <summary>The extent of one axis.</summary>
    public int this[int axis] => axis switch
    {
        0 => _d0,
        1 when Rank > 1 => _d1,
        2 when Rank > 2 => _d2,
        3 when Rank > 3 => _d3,
        _ => throw new ArgumentOutOfRangeException(nameof(axis), axis, $"the shape {this} has {Rank} axes"),
    };

    /// <inheritdoc/>
    public bool Equals(Shape other) =>
        Rank == other.Rank && _d0 == other._d0 && _d1 == other._d1 && _d2 == other._d2 && _d3 == other._d3;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Shape other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Rank, _d0, _d1, _d2, _d3);

    /// <inheritdoc/>
    public override string ToString() => Rank switch
    {
        1 => $"[{_d0}]",
        2 => $"[{_d0}, {_d1}]",
        3 => $"[{_d0}, {_d1}, {_d2}]",
        _ => $"[{_d0}, {_d1}, {_d2}, {_d3}]",
    };

    /// <summary>Equal rank and extents.</summary>
    public static bool operator ==(Shape left, Shape right) => left.Equals(right);

    /// <summary>Other rank or extents.</summary>
    public static bool operator !=(Shape left, Shape right) => !left.Equals(right);

    private int RowsOfEmpty()
    {
        var rows = 1;
        for (var axis = 0; axis < Rank - 1; axis++)
        {
            rows *= this[axis];
        }

        return rows;
    }
}
