namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>Counter-based numbers (splitmix64): each depends only on (seed, stream, index, its place).</summary>
internal struct NanoRandom
{
    private readonly ulong _key;
    private ulong _counter;

    public NanoRandom(ulong seed, ulong stream, ulong index)
    {
        _key = Mix(Mix(Mix(seed) ^ stream) ^ index);
    }

    /// <summary>Uniform in [0, count). The bias of the multiply is below 2^-50 for the counts used here.</summary>
    public int Below(int count) => (int)Math.BigMul(Mix(_key + (0x9E3779B97F4A7C15ul * ++_counter)), (ulong)count, out _);

    /// <summary>Uniform in [low, high].</summary>
    public int Between(int low, int high) => low + Below(high - low + 1);

    /// <summary>One element of a table.</summary>
    public T Pick<T>(ReadOnlySpan<T> table) => table[Below(table.Length)];

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ul;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBul;
        return z ^ (z >> 31);
    }
}
