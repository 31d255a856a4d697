using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// The 8-bit copy of a matrix [R, C]: as stored, transposed, or both, and its scale. Hopper multiplies 8-bit matrices only with the summed
/// axis contiguous in both, so a forward product reads the copies as stored and a gradient reads transposed ones.
/// </summary>
public readonly struct Fp8Operand
{
    private Fp8Operand(Tensor<byte> values, Tensor<byte> transposed, Tensor<float> scale, Fp8Format format, int rows, int columns)
    {
        Values = values;
        Transposed = transposed;
        Scale = scale;
        Format = format;
        (RowCount, ColumnCount) = (rows, columns);
    }

    /// <summary>Codes [R, C], or empty.</summary>
    public Tensor<byte> Values { get; }

    /// <summary>Codes [C, R], or empty.</summary>
    public Tensor<byte> Transposed { get; }

    /// <summary>[2]: the factor that turns codes into values, and its reciprocal. Both powers of two.</summary>
    public Tensor<float> Scale { get; }

    /// <summary>What the codes mean.</summary>
    public Fp8Format Format { get; }

    /// <summary>R.</summary>
    public int RowCount { get; }

    /// <summary>C.</summary>
    public int ColumnCount { get; }

    /// <summary>Reserves room in an arena.</summary>
    /// <param name="arena">not yet allocated</param>
    /// <param name="rows">R, a multiple of 16</param>
    /// <param name="columns">C, a multiple of 16</param>
    /// <param name="format">of the codes</param>
    /// <param name="values">whether the copy as stored is wanted</param>
    /// <param name="transposed">whether the transposed copy is wanted</param>
    public static Fp8Operand Declare(Arena arena, int rows, int columns, Fp8Format format, bool values = true, bool transposed = true)
    {
        Expect.That(values || transposed, "an 8-bit operand needs at least one copy");
        Expect.That(rows % 16 == 0 && columns % 16 == 0, $"8-bit matrices have extents of multiples of 16, not [{rows}, {columns}]");
        return new(
            values ? arena.Declare<byte>(rows, columns) : default,
            transposed ? arena.Declare<byte>(columns, rows) : default,
            arena.Declare<float>(2),
            format,
            rows,
            columns);
    }

    /// <summary>The same memory for fewer rows: a buffer sized for the largest batch serves all.</summary>
    /// <param name="rows">a multiple of 16, at most R</param>
    public Fp8Operand Prefix(int rows)
    {
        Expect.That(rows % 16 == 0 && rows <= RowCount, $"{rows} rows of an 8-bit matrix of {RowCount}");
        return new(
            Values.IsEmpty ? default : Values.Prefix(rows, ColumnCount),
            Transposed.IsEmpty ? default : Transposed.Prefix(ColumnCount, rows),
            Scale,
            Format,
            rows,
            ColumnCount);
    }
}
