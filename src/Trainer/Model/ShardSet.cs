using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>One shard of every unit, each a flat tensor, in one arena: master weights, moments and reduced gradients are each such a set.</summary>
/// <typeparam name="T">storage</typeparam>
public sealed class ShardSet<T> : IDisposable
    where T : unmanaged
{
    private readonly Tensor<T>[] _units;

    /// <summary>Declares a shard under the role <paramref name="name"/>; takes no memory yet.</summary>
    /// <param name="name">role</param>
    /// <param name="layout">units and shards</param>
    /// <param name="stream">whose memory it is; null takes the host's</param>
    public ShardSet(string name, ShardLayout layout, ComputeStream? stream = null)
    {
        Layout = layout;
        Arena = stream?.CreateArena(name) ?? new Arena(name);
        _units = [.. Enumerable.Range(0, layout.Units.Count).Select(u => Arena.Declare<T>(layout.ShardElements(u)))];
    }

    /// <summary>Units and shards.</summary>
    public ShardLayout Layout { get; }

    /// <summary>The memory; <see cref="Arena.Bytes"/> is the plan.</summary>
    public Arena Arena { get; }

    /// <summary>One flat tensor per unit.</summary>
    public ReadOnlySpan<Tensor<T>> Units => _units;

    /// <inheritdoc/>
    public void Dispose() => Arena.Dispose();
}
