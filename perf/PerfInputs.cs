using System.Runtime.InteropServices;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>Tensors for perf cases in the memory of a stream, filled with random values (zeros run measurably faster on real hardware and
/// prove nothing). The values are a function of the order of the calls: the same on every device.</summary>
public sealed class PerfInputs(ComputeStream stream) : IDisposable
{
    private readonly List<Arena> _arenas = [];
    private readonly List<(string Name, int Columns, bool IsFloat, Func<float[]> Read)> _checked = [];
    private uint _state = 0x9E3779B9;

    /// <summary>Where the case runs.</summary>
    public ComputeStream Stream => stream;

    /// <summary>What the case must compute, by name, length of a row and whether it is fp32 or wider, readable after its action has run.</summary>
    public IReadOnlyList<(string Name, int Columns, bool IsFloat, Func<float[]> Read)> Results => _checked;

    /// <summary>Uniform in (-1, 1), exact in bfloat16 when T is.</summary>
    public Tensor<T> Random<T>(params ReadOnlySpan<int> extents)
        where T : unmanaged
    {
        var tensor = Empty<T>(extents);
        HostPieces.Fill(tensor, (_, piece) =>
        {
            for (var i = 0; i < piece.Length; i++)
            {
                _state ^= _state << 13;
                _state ^= _state >> 17;
                _state ^= _state << 5;
                Lanes.Set(ref piece[i], 0, (_state / (float)uint.MaxValue * 2) - 1);
            }
        });
        return tensor;
    }

    /// <summary>Integers as given.</summary>
    public Tensor<int> Ints(params ReadOnlySpan<int> values)
    {
        var tensor = Empty<int>(values.Length);
        tensor.CopyFrom(values);
        return tensor;
    }

    /// <summary>An output: NaN until the kernel writes it, compared by `z1 kernels check`.</summary>
    public Tensor<T> Output<T>(string name, params ReadOnlySpan<int> extents)
        where T : unmanaged
    {
        var tensor = Empty<T>(extents);
        if (typeof(T) == typeof(double))
        {
            HostPieces.Fill(tensor, (_, piece) => MemoryMarshal.Cast<T, double>(piece).Fill(double.NaN));
        }
        else if (typeof(T) != typeof(int))
        {
            HostPieces.Fill(tensor, (_, piece) =>
            {
                for (var i = 0; i < piece.Length; i++)
                {
                    Lanes.Set(ref piece[i], 0, float.NaN);
                }
            });
        }

        return Checked(name, tensor);
    }

    /// <summary>A tensor that the kernel changes in place: compared by `z1 kernels check`.</summary>
    public Tensor<T> Checked<T>(string name, Tensor<T> tensor)
        where T : unmanaged
    {
        _checked.Add((name, tensor.Shape.Columns, typeof(T) == typeof(float) || typeof(T) == typeof(double), () =>
        {
            var values = new float[tensor.Count];
            HostPieces.Read(tensor, (start, piece) =>
            {
                for (var i = 0; i < piece.Length; i++)
                {
                    values[start + i] = piece[i] switch { int n => n, byte b => b, double d => (float)d, _ => Lanes.Get(in piece[i], 0) };
                }
            });
            return values;
        }));
        return tensor;
    }

    /// <summary>A number that the kernel returns: compared by `z1 kernels check`.</summary>
    public void Checked(string name, Func<double> value) => _checked.Add((name, 1, true, () => [(float)value()]));

    /// <summary>Room for an 8-bit copy, and its transpose if wanted.</summary>
    public Fp8Operand Fp8(int rows, int columns, Fp8Format format, bool transposed) =>
        Declare(arena => Fp8Operand.Declare(arena, rows, columns, format, values: true, transposed));

    /// <summary>Zeroed memory.</summary>
    public Tensor<T> Empty<T>(params ReadOnlySpan<int> extents)
        where T : unmanaged
    {
        var arena = stream.CreateArena("perf");
        _arenas.Add(arena);
        var tensor = arena.Declare<T>(extents);
        arena.Allocate();
        return tensor;
    }

    /// <summary>Something that declares its own tensors, allocated.</summary>
    public TOwner Declare<TOwner>(Func<Arena, TOwner> declare)
    {
        ArgumentNullException.ThrowIfNull(declare);
        var arena = stream.CreateArena("perf");
        _arenas.Add(arena);
        var owner = declare(arena);
        arena.Allocate();
        return owner;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        stream.Synchronize();
        _arenas.ForEach(a => a.Dispose());
    }
}
