using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>Keys and values of the tokens seen so far, per layer: [slots, capacity, K · H] each, a slot for each sequence under way.</summary>
/// <typeparam name="T">storage, that of the model</typeparam>
public sealed class KvCache<T> : IDisposable
    where T : unmanaged
{
    private readonly Tensor<T>[] _keys, _values;

    /// <summary>Declares and allocates room for <paramref name="slots"/> sequences of up to <paramref name="capacity"/> tokens, in the memory of
    /// <paramref name="stream"/>.</summary>
    public KvCache(Qwen2Config config, int slots, int capacity, ComputeStream stream)
    {
        (Slots, Capacity) = (slots, capacity);
        Arena = stream.CreateArena("kv cache");
        var width = config.NumKeyValueHeads * config.HeadDim;
        _keys = [.. Enumerable.Range(0, config.NumHiddenLayers).Select(_ => Arena.Declare<T>(slots, capacity, width))];
        _values = [.. Enumerable.Range(0, config.NumHiddenLayers).Select(_ => Arena.Declare<T>(slots, capacity, width))];
        Arena.Allocate();
    }

    /// <summary>Sequences it holds.</summary>
    public int Slots { get; }

    /// <summary>Tokens of one sequence, prompt and answer.</summary>
    public int Capacity { get; }

    /// <summary>The memory.</summary>
    public Arena Arena { get; }

    /// <summary>[slots, capacity, K · H]</summary>
    public Tensor<T> Keys(int layer) => _keys[layer];

    /// <summary>[slots, capacity, K · H]</summary>
    public Tensor<T> Values(int layer) => _values[layer];

    /// <inheritdoc/>
    public void Dispose() => Arena.Dispose();
}
