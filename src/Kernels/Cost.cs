namespace Z1Coder.Kernels;

/// <summary>What an operation must do at least: bytes to and from memory, and floating-point operations (an fma counts as two).
/// Stated once, beside the kernel; read by the perf lab, by `z1 plan` and by MFU.</summary>
/// <param name="Bytes">bytes read plus bytes written, each operand once</param>
/// <param name="Flops">floating-point operations</param>
public readonly record struct Cost(long Bytes, long Flops)
{
    /// <summary>Both parts added.</summary>
    public static Cost operator +(Cost left, Cost right) => new(left.Bytes + right.Bytes, left.Flops + right.Flops);

    /// <summary>Both parts times <paramref name="times"/>.</summary>
    public static Cost operator *(Cost cost, long times) => new(cost.Bytes * times, cost.Flops * times);
}
