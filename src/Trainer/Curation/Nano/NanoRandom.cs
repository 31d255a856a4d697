using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>Counter-based numbers (splitmix64): each depends only on (seed, stream, index, its place).</summary>
internal struct NanoRandom
{
    private readonly ulong _key;
    private ulong _counter;

    public NanoRandom(ulong seed, ulong stream, ulong index)
    {
        _key = SplitMix64.Mix(SplitMix64.Mix(SplitMix64.Mix(seed) ^ stream) ^ index);
    }

    /// <summary>Uniform in [0, count). The bias of the multiply is below 2^-50 for the counts used here.</summary>
    public int Below(int count) => (int)Math.BigMul(SplitMix64.Mix(_key + (SplitMix64.Step * ++_counter)), (ulong)count, out _);

    /// <summary>Uniform in [low, high].</summary>
    public int Between(int low, int high) => low + Below(high - low + 1);

    /// <summary>One element of a table.</summary>
    public T Pick<T>(ReadOnlySpan<T> table) => table[Below(table.Length)];
}
