using System.Numerics;
using System.Runtime.CompilerServices;

namespace Z1Coder.Trainer.Tokens;

/// <summary>A fixed hash table from a pair of ids to its merge: rank in the upper half, product in the lower half.</summary>
internal sealed class BpeMerges
{
    /// <summary>What <see cref="Find"/> returns for a pair that does not merge: above every rank.</summary>
    public const ulong None = ulong.MaxValue;

    private readonly Entry[] _entries;
    private readonly int _shift;

    /// <summary>Room for <paramref name="count"/> merges at a load of at most one half.</summary>
    public BpeMerges(int count)
    {
        var size = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(16, count * 2));
        _entries = new Entry[size];
        _entries.AsSpan().Fill(new Entry { Pair = None, Merge = None });
        _shift = 64 - BitOperations.Log2((uint)size);
    }

    /// <summary>Adds a merge; false when the pair is there already.</summary>
    public bool TryAdd(int left, int right, int rank, int product)
    {
        var pair = ((ulong)(uint)left << 32) | (uint)right;
        for (var i = Slot(pair); ; i = (i + 1) & (_entries.Length - 1))
        {
            if (_entries[i].Pair == pair)
            {
                return false;
            }

            if (_entries[i].Pair == None)
            {
                _entries[i] = new Entry { Pair = pair, Merge = ((ulong)(uint)rank << 32) | (uint)product };
                return true;
            }
        }
    }

    /// <summary>rank &lt;&lt; 32 | product of the pair, or <see cref="None"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Find(int left, int right)
    {
        var pair = ((ulong)(uint)left << 32) | (uint)right;
        var entries = _entries;
        for (var i = Slot(pair); ; i = (i + 1) & (entries.Length - 1))
        {
            ref readonly var entry = ref entries[i];
            if (entry.Pair == pair || entry.Pair == None)
            {
                return entry.Merge;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int Slot(ulong pair) => (int)(pair * 0x9E3779B97F4A7C15 >> _shift);

    private struct Entry
    {
        public ulong Pair;
        public ulong Merge;
    }
}
