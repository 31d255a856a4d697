using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>One tensor per parameter block, in one arena: weights, gradients, master weights and moments are each such a set.</summary>
public sealed class ParameterSet<T> : IDisposable
    where T : unmanaged
{
    private readonly Tensor<T>[] _tensors;

    /// <summary>Declares every block under the role <paramref name="name"/>; takes no memory yet.</summary>
    /// <param name="name">role</param>
    /// <param name="parameters">what there is</param>
    /// <param name="stream">whose memory it is; null takes the host's</param>
    public ParameterSet(string name, Qwen2Parameters parameters, ComputeStream? stream = null)
    {
        Parameters = parameters;
        Arena = stream?.CreateArena(name) ?? new Arena(name);
        _tensors = [.. parameters.Blocks.Select(b => b.Declare<T>(Arena))];
    }

    /// <summary>What the blocks mean.</summary>
    public Qwen2Parameters Parameters { get; }

    /// <summary>The memory; <see cref="Arena.Bytes"/> is the plan.</summary>
    public Arena Arena { get; }

    /// <summary>One tensor per block, in the order of <see cref="Qwen2Parameters.Blocks"/>.</summary>
    public ReadOnlySpan<Tensor<T>> Tensors => _tensors;

    /// <summary>The tensor of a block; index -1 (an absent optional block) gives the empty tensor.</summary>
    public Tensor<T> this[int block] => block < 0 ? default : _tensors[block];

    /// <summary>Every parameter by its checkpoint name.</summary>
    public IEnumerable<(Parameter Parameter, Tensor<T> Tensor)> ByName =>
        Parameters.Blocks.SelectMany((block, index) => block.Split(_tensors[index]));

    /// <inheritdoc/>
    public void Dispose() => Arena.Dispose();
}
