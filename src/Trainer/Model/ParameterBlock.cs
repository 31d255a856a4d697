using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// Parameters that lie one after another in memory and are used as one tensor: q, k and v share a GEMM, gate and up share another.
/// The unit of storage, of the optimizer and of sharding; the parts keep their own names in checkpoints.
/// </summary>
public sealed class ParameterBlock
{
    /// <summary>Stacks <paramref name="parts"/> along their first axis.</summary>
    public ParameterBlock(params Parameter[] parts)
    {
        Parts = parts;
        var rows = parts.Sum(p => p.Shape[0]);
        Shape = parts[0].Shape.Rank == 1 ? new Shape(rows) : new Shape(rows, parts[0].Shape[1]);
    }

    /// <summary>What is stacked, in order.</summary>
    public IReadOnlyList<Parameter> Parts { get; }

    /// <summary>The shape of the whole.</summary>
    public Shape Shape { get; }

    /// <summary>Whether weight decay applies: the same for all parts.</summary>
    public bool Decay => Parts[0].Decay;

    /// <summary>Reserves the block in an arena.</summary>
    public Tensor<T> Declare<T>(Arena arena)
        where T : unmanaged =>
        Shape.Rank == 1 ? arena.Declare<T>(Shape[0]) : arena.Declare<T>(Shape[0], Shape[1]);

    /// <summary>The parts as views of <paramref name="whole"/>, a tensor of this block's shape.</summary>
    public IEnumerable<(Parameter Part, Tensor<T> View)> Split<T>(Tensor<T> whole)
        where T : unmanaged
    {
        var row = 0;
        foreach (var part in Parts)
        {
            yield return (part, whole.Rows(row, part.Shape[0]));
            row += part.Shape[0];
        }
    }
}
