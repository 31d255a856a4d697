using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Tensors for perf cases, filled with random values (zeros run measurably faster on real hardware and prove nothing).</summary>
public sealed class PerfInputs : IDisposable
{
    private readonly List<Arena> _arenas = [];
    private uint _state = 0x9E3779B9;

    /// <summary>Uniform in (-1, 1).</summary>
    public Tensor<T> Random<T>(params ReadOnlySpan<int> extents)
        where T : unmanaged
    {
        var tensor = Empty<T>(extents);
        for (long i = 0; i < tensor.Count; i++)
        {
            _state ^= _state << 13;
            _state ^= _state >> 17;
            _state ^= _state << 5;
            Lanes.Set(ref tensor.Origin, (nuint)i, (_state / (float)uint.MaxValue * 2) - 1);
        }

        return tensor;
    }

    /// <summary>Integers as given.</summary>
    public Tensor<int> Ints(params ReadOnlySpan<int> values)
    {
        var tensor = Empty<int>(values.Length);
        values.CopyTo(tensor.Span);
        return tensor;
    }

    /// <summary>Room for an 8-bit copy, and its transpose if wanted.</summary>
    public Fp8Operand Fp8(int rows, int columns, Fp8Format format, bool transposed)
    {
        var arena = new Arena("perf");
        var operand = Fp8Operand.Declare(arena, rows, columns, format, values: true, transposed);
        arena.Allocate();
        _arenas.Add(arena);
        return operand;
    }

    /// <summary>Zeroed memory.</summary>
    public Tensor<T> Empty<T>(params ReadOnlySpan<int> extents)
        where T : unmanaged
    {
        var arena = new Arena("perf");
        var tensor = arena.Declare<T>(extents);
        arena.Allocate();
        _arenas.Add(arena);
        return tensor;
    }

    /// <inheritdoc/>
    public void Dispose() => _arenas.ForEach(a => a.Dispose());
}
