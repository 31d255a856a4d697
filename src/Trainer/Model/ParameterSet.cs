using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>One tensor per parameter block, in one arena: weights, gradients, master weights and moments are each such a set.</summary>
public sealed class ParameterSet<T> : IDisposable
    where T : unmanaged
{
    private readonly Tensor<T>[] _tensors;

    /// <summary>Declares every block under the role <paramref name="name"/>; takes no memory yet.</summary>
    public ParameterSet(string name, Qwen2Parameters parameters)
    {
        Parameters = parameters;
        Arena = new Arena(name);
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

    /// <summary>Copies fp32 weights of the same model, rounded to T. Both sets allocated.</summary>
    public void RoundFrom(ParameterSet<float> source)
    {
        for (var i = 0; i < _tensors.Length; i++)
        {
            var (from, to) = (source.Tensors[i], _tensors[i]);
            for (nuint e = 0; e < (nuint)from.Count; e++)
            {
                Lanes.Set(ref to.Origin, e, Lanes.Get(ref from.Origin, e));
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Arena.Dispose();
}
