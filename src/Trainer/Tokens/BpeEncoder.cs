using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// Turns words into ids: a bounded cache of words seen, and byte-pair merges for the rest. One thread at a time; holds every buffer, so
/// that encoding allocates nothing once warm. What the cache holds never changes the result.
/// </summary>
internal sealed class BpeEncoder
{
    private const int CacheBits = 15;
    private const int Probes = 8;
    private const int InlineChars = 8;                        // words up to here are compared as two registers
    private const int CachedChars = 96;                       // longer words are rare and not worth keeping
    private const int CharsKept = 1 << 19;
    private const int IdsKept = 1 << 18;
    private const int LinearBytes = 48;                       // above this, the pairs of a word go through a heap

    private readonly int[] _byteIds;
    private readonly BpeMerges _merges;
    private readonly PreTokenizerRule _rule;

    private readonly Entry[] _cache = new Entry[1 << CacheBits];
    private char[] _chars = new char[1 << 12];
    private int _charCount;
    private int[] _kept = new int[1 << 12];
    private int _keptCount;

    private byte[] _bytes = new byte[256];
    private int[] _parts = new int[256];
    private ulong[] _ranks = new ulong[256];
    private int[] _next = new int[64];
    private int[] _previous = new int[64];
    private ulong[] _heap = new ulong[256];                  // four per part: one at the start, two per merge
    private int _heapCount;

    /// <summary>An encoder over tables that it shares and never changes.</summary>
    /// <param name="byteIds">[256] the id of each byte's own token</param>
    /// <param name="merges">the merge table</param>
    /// <param name="rule">how text is cut into words</param>
    public BpeEncoder(int[] byteIds, BpeMerges merges, PreTokenizerRule rule) => (_byteIds, _merges, _rule) = (byteIds, merges, rule);

    /// <summary>For the callers' normalisation.</summary>
    public TokenizerNormalization Normalization { get; } = new();

    /// <summary>A list for callers that want an array.</summary>
    public List<int> Ids { get; } = [];

    /// <summary>Appends the ids of <paramref name="text"/>, which holds no added token and is normalised.</summary>
    public void Encode(ReadOnlySpan<char> text, List<int> ids)
    {
        if (_rule == PreTokenizerRule.Qwen2)
        {
            for (var start = 0; start < text.Length;)
            {
                var end = PreTokenizer.EndQwen2(text, start);
                EncodeWord(text, start, end - start, ids);
                start = end;
            }
        }
        else
        {
            for (var start = 0; start < text.Length;)
            {
                var end = PreTokenizer.EndGpt2(text, start);
                EncodeWord(text, start, end - start, ids);
                start = end;
            }
        }
    }

    private void EncodeWord(ReadOnlySpan<char> text, int start, int length, List<int> ids)
    {
        if (length == 1 && text[start] < 0x80)
        {
            ids.Add(_byteIds[text[start]]);
            return;
        }

        if (length > CachedChars)
        {
            var whole = Merge(text.Slice(start, length));
            ids.AddRange(_parts.AsSpan(0, whole));
            return;
        }

        ulong a, b, hash;
        if (length <= InlineChars)
        {
            (a, b) = Load(text, start, length);
            hash = (a * 0x9E3779B97F4A7C15) ^ BitOperations.RotateLeft((b + (ulong)length) * 0xC2B2AE3D27D4EB4F, 32);
            hash *= 0xD6E8FEB86659FD93;
        }
        else
        {
            a = Hash(text.Slice(start, length));
            b = 0;
            hash = a;
        }

        var home = (int)(hash >> (64 - CacheBits));
        var free = home;
        for (var probe = 0; probe < Probes; probe++)
        {
            var at = (home + probe) & ((1 << CacheBits) - 1);
            ref readonly var entry = ref _cache[at];
            if (entry.Length == length && entry.A == a
                && (length <= InlineChars ? entry.B == b : text.Slice(start, length).SequenceEqual(_chars.AsSpan((int)entry.B, length))))
            {
                if (entry.Count == 1)
                {
                    ids.Add(entry.Ids);
                }
                else
                {
                    ids.AddRange(_kept.AsSpan(entry.Ids, entry.Count));
                }

                return;
            }

            if (entry.Length == 0)
            {
                free = at;
                break;
            }
        }

        var count = Merge(text.Slice(start, length));
        ids.AddRange(_parts.AsSpan(0, count));
        Keep(free, text.Slice(start, length), a, b, count);
    }

    /// <summary>Up to eight characters as two words, zero-filled.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (ulong A, ulong B) Load(ReadOnlySpan<char> text, int start, int length)
    {
        if (start + InlineChars <= text.Length)
        {
            var bytes = MemoryMarshal.AsBytes(text.Slice(start, InlineChars));
            var a = MemoryMarshal.Read<ulong>(bytes);
            var b = MemoryMarshal.Read<ulong>(bytes[8..]);
            return length <= 4
                ? (a & (ulong.MaxValue >> (64 - (16 * length))), 0)
                : (a, b & (ulong.MaxValue >> (128 - (16 * length))));
        }

        ulong first = 0, second = 0;
        for (var i = 0; i < length; i++)
        {
            if (i < 4)
            {
                first |= (ulong)text[start + i] << (16 * i);
            }
            else
            {
                second |= (ulong)text[start + i] << (16 * (i - 4));
            }
        }

        return (first, second);
    }

    private static ulong Hash(ReadOnlySpan<char> word)
    {
        var bytes = MemoryMarshal.AsBytes(word);
        var hash = (ulong)word.Length;
        for (; bytes.Length >= 8; bytes = bytes[8..])
        {
            hash = (hash ^ MemoryMarshal.Read<ulong>(bytes)) * 0x9E3779B97F4A7C15;
            hash ^= hash >> 29;
        }

        foreach (var c in MemoryMarshal.Cast<byte, char>(bytes))
        {
            hash = (hash ^ c) * 0xC2B2AE3D27D4EB4F;
            hash ^= hash >> 29;
        }

        return hash * 0xD6E8FEB86659FD93;
    }

    private void Keep(int slot, ReadOnlySpan<char> word, ulong a, ulong b, int count)
    {
        if (_charCount + CachedChars > CharsKept || _keptCount + count > IdsKept)
        {
            Array.Clear(_cache);
            _charCount = _keptCount = 0;
        }

        var value = _parts[0];
        if (count > 1)
        {
            if (_keptCount + count > _kept.Length)
            {
                Array.Resize(ref _kept, _kept.Length * 2);
            }

            value = _keptCount;
            _parts.AsSpan(0, count).CopyTo(_kept.AsSpan(_keptCount));
            _keptCount += count;
        }

        if (word.Length > InlineChars)
        {
            if (_charCount + word.Length > _chars.Length)
            {
                Array.Resize(ref _chars, _chars.Length * 2);
            }

            b = (ulong)_charCount;
            word.CopyTo(_chars.AsSpan(_charCount));
            _charCount += word.Length;
        }

        _cache[slot] = new Entry { A = a, B = b, Ids = value, Count = (ushort)count, Length = (ushort)word.Length };
    }

    /// <summary>Puts the ids of <paramref name="word"/> into _parts and returns their number.</summary>
    private int Merge(ReadOnlySpan<char> word)
    {
        var most = word.Length * 3;                           // UTF-8 takes at most three bytes per UTF-16 unit
        if (_bytes.Length < most)
        {
            var size = (int)BitOperations.RoundUpToPowerOf2((uint)most);
            (_bytes, _parts, _ranks) = (new byte[size], new int[size], new ulong[size]);
        }

        var count = Encoding.UTF8.GetBytes(word, _bytes);
        for (var i = 0; i < count; i++)
        {
            _parts[i] = _byteIds[_bytes[i]];
        }

        return count < 2 ? count : count <= LinearBytes ? MergeLinear(count) : MergeHeap(count);
    }

    /// <summary>The lowest rank by scanning, the leftmost of equals first, until no pair merges.</summary>
    private int MergeLinear(int count)
    {
        var parts = _parts.AsSpan(0, count);
        var ranks = _ranks.AsSpan(0, count);
        for (var i = 0; i + 1 < count; i++)
        {
            ranks[i] = _merges.Find(parts[i], parts[i + 1]);
        }

        while (count > 1)
        {
            var best = BpeMerges.None;
            var at = 0;
            for (var i = 0; i < count - 1; i++)
            {
                if (ranks[i] < best)
                {
                    (best, at) = (ranks[i], i);
                }
            }

            if (best == BpeMerges.None)
            {
                break;
            }

            parts[at] = (int)best;
            parts[(at + 2)..count].CopyTo(parts[(at + 1)..]);
            ranks[(at + 2)..count].CopyTo(ranks[(at + 1)..]);
            count--;
            if (at + 1 < count)
            {
                ranks[at] = _merges.Find(parts[at], parts[at + 1]);
            }

            if (at > 0)
            {
                ranks[at - 1] = _merges.Find(parts[at - 1], parts[at]);
            }
        }

        return count;
    }

    /// <summary>The same order of merges for long words: a heap of (rank, position) over a linked list, stale entries skipped.</summary>
    private int MergeHeap(int count)
    {
        if (_next.Length < count)
        {
            var size = (int)BitOperations.RoundUpToPowerOf2((uint)count);
            (_next, _previous, _heap) = (new int[size], new int[size], new ulong[4 * size]);
        }

        _heapCount = 0;
        for (var i = 0; i < count; i++)
        {
            _next[i] = i + 1 < count ? i + 1 : -1;
            _previous[i] = i - 1;
            Consider(i);
        }

        while (_heapCount > 0)
        {
            var top = Pop();
            var at = (int)(uint)top;
            if (_ranks[at] >> 32 != top >> 32 || _ranks[at] == BpeMerges.None)
            {
                continue;                                     // the pair here has changed since
            }

            _parts[at] = (int)(uint)_ranks[at];
            var gone = _next[at];
            _ranks[gone] = BpeMerges.None;
            _next[at] = _next[gone];
            if (_next[at] >= 0)
            {
                _previous[_next[at]] = at;
            }

            Consider(at);
            if (_previous[at] >= 0)
            {
                Consider(_previous[at]);
            }
        }

        var kept = 0;
        for (var i = 0; i >= 0; i = _next[i])
        {
            _parts[kept++] = _parts[i];                       // kept never passes i
        }

        return kept;
    }

    private void Consider(int at)
    {
        _ranks[at] = _next[at] < 0 ? BpeMerges.None : _merges.Find(_parts[at], _parts[_next[at]]);
        if (_ranks[at] != BpeMerges.None)
        {
            Push((_ranks[at] & 0xFFFFFFFF_00000000) | (uint)at);
        }
    }

    private void Push(ulong item)
    {
        var at = _heapCount++;
        while (at > 0)
        {
            var parent = (at - 1) / 2;
            if (_heap[parent] <= item)
            {
                break;
            }

            _heap[at] = _heap[parent];
            at = parent;
        }

        _heap[at] = item;
    }

    private ulong Pop()
    {
        var top = _heap[0];
        var last = _heap[--_heapCount];
        var at = 0;
        while (true)
        {
            var child = (2 * at) + 1;
            if (child >= _heapCount)
            {
                break;
            }

            if (child + 1 < _heapCount && _heap[child + 1] < _heap[child])
            {
                child++;
            }

            if (_heap[child] >= last)
            {
                break;
            }

            _heap[at] = _heap[child];
            at = child;
        }

        _heap[at] = last;
        return top;
    }

    private struct Entry
    {
        public ulong A;                                       // the characters 0..3, or the hash of a long word
        public ulong B;                                       // the characters 4..7, or where a long word lies in _chars
        public int Ids;                                       // the id, or where the ids lie in _kept
        public ushort Count;
        public ushort Length;                                 // 0: free
    }
}
