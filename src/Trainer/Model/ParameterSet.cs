using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// One tensor per parameter block, views into one flat run per unit, in one arena: compute weights and gradients are each such a set. A set
/// of windows holds two layers at a time: every second layer has the same memory, which is another layer's when that one is used.
/// </summary>
public sealed class ParameterSet<T> : IDisposable
    where T : unmanaged
{
    private readonly Tensor<T>[] _units, _tensors;

    /// <summary>Declares every block under the role <paramref name="name"/>; takes no memory yet.</summary>
    /// <param name="name">role</param>
    /// <param name="parameters">what there is</param>
    /// <param name="stream">whose memory it is; null takes the host's</param>
    public ParameterSet(string name, Qwen2Parameters parameters, ComputeStream? stream = null)
        : this(name, new ShardLayout(parameters, 1), stream)
    {
    }

    /// <summary>Declares every unit of <paramref name="layout"/>, whole; takes no memory yet.</summary>
    /// <param name="name">role</param>
    /// <param name="layout">where each block lies</param>
    /// <param name="stream">whose memory it is; null takes the host's</param>
    /// <param name="windows">layers share memory as <see cref="ShardLayout.WindowOf"/> says</param>
    public ParameterSet(string name, ShardLayout layout, ComputeStream? stream = null, bool windows = false)
    {
        ArgumentNullException.ThrowIfNull(layout);
        (Layout, IsWhole) = (layout, !windows);
        Arena = stream?.CreateArena(name) ?? new Arena(name);
        _units = new Tensor<T>[layout.Units.Count];
        for (var u = 0; u < _units.Length; u++)
        {
            var window = windows ? layout.WindowOf(u) : u;
            _units[u] = window < u ? _units[window] : Arena.Declare<T>(layout.Units[u].Elements);
        }

        _tensors = [.. layout.Parameters.Blocks.Select(View)];
    }

    /// <summary>Where each block lies.</summary>
    public ShardLayout Layout { get; }

    /// <summary>What the blocks mean.</summary>
    public Qwen2Parameters Parameters => Layout.Parameters;

    /// <summary>Whether every block has memory of its own; false for windows.</summary>
    public bool IsWhole { get; }

    /// <summary>The memory; <see cref="Arena.Bytes"/> is the plan.</summary>
    public Arena Arena { get; }

    /// <summary>One flat tensor per unit, padding included.</summary>
    public ReadOnlySpan<Tensor<T>> Units => _units;

    /// <summary>One tensor per block, in the order of <see cref="Qwen2Parameters.Blocks"/>.</summary>
    public ReadOnlySpan<Tensor<T>> Tensors => _tensors;

    /// <summary>The tensor of a block; index -1 (an absent optional block) gives the empty tensor.</summary>
    public Tensor<T> this[int block] => block < 0 ? default : _tensors[block];

    /// <summary>Every parameter by its checkpoint name.</summary>
    /// <exception cref="InvalidOperationException">a set of windows never holds all of them at once</exception>
    public IEnumerable<(Parameter Parameter, Tensor<T> Tensor)> ByName => IsWhole
        ? Parameters.Blocks.SelectMany((block, index) => block.Split(_tensors[index]))
        : throw new InvalidOperationException($"'{Arena.Name}' holds a few units at a time; gather the whole weights first");

    /// <inheritdoc/>
    public void Dispose() => Arena.Dispose();

    private Tensor<T> View(ParameterBlock block, int index)
    {
        var flat = _units[Layout.UnitOf(index)].Rows(Layout.OffsetOf(index), checked((int)block.Shape.Count));
        return block.Shape.Rank == 1 ? flat : flat.Reshape(block.Shape[0], block.Shape[1]);
    }
}
