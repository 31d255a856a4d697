using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// Keys and values of the tokens seen so far, per layer, in pages that sequences take as they grow: [pages, pageTokens, K · H] each. Kwon et al.
/// 2023, arXiv:2309.06180.
/// </summary>
/// <typeparam name="T">storage, that of the model</typeparam>
public sealed class PagedKvCache<T> : IDisposable
    where T : unmanaged
{
    private readonly Tensor<T>[] _keys, _values;

    /// <summary>Declares and allocates room for <paramref name="pages"/> pages in the memory of <paramref name="stream"/>.</summary>
    public PagedKvCache(Qwen2Config config, int pages, int pageTokens, ComputeStream stream)
    {
        Arena = stream.CreateArena("kv pages");
        var width = config.NumKeyValueHeads * config.HeadDim;
        _keys = [.. Enumerable.Range(0, config.NumHiddenLayers).Select(_ => Arena.Declare<T>(pages, pageTokens, width))];
        _values = [.. Enumerable.Range(0, config.NumHiddenLayers).Select(_ => Arena.Declare<T>(pages, pageTokens, width))];
        Arena.Allocate();
    }

    /// <summary>The memory.</summary>
    public Arena Arena { get; }

    /// <summary>[pages, pageTokens, K · H]</summary>
    public Tensor<T> Keys(int layer) => _keys[layer];

    /// <summary>[pages, pageTokens, K · H]</summary>
    public Tensor<T> Values(int layer) => _values[layer];

    /// <inheritdoc/>
    public void Dispose() => Arena.Dispose();
}
