using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Z1Coder.Trainer.Data.Journal;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation.Filters;

/// <summary>
/// Finds texts that resemble an earlier one: MinHash signatures in 32 bands of 4 values (locality-sensitive hashing), and the estimate of
/// the similarity itself for every earlier text that shares a band. A pair of similarity s shares one with probability 1 − (1 − s⁴)³²:
/// 0.998 at 0.65, over 0.9999 at 0.7. The first text of a band stands for the band, which costs a little of that where many different
/// texts share one.
/// <para>Signatures and bands stand on disk (some 2 to 5 KB a text that is kept, while running): memory is constant in the number of
/// texts. One thread at a time.</para>
/// </summary>
public sealed class NearDuplicates : IDisposable
{
    private const int Rows = 4, Bands = MinHash.Size / Rows, SignatureBytes = MinHash.Size * sizeof(uint);

    private readonly DiskTable _bands;
    private readonly SafeFileHandle _signatures;
    private readonly double _threshold;
    private long _count;

    /// <summary>Nothing seen yet.</summary>
    /// <param name="directory">where the nameless files stand</param>
    /// <param name="threshold">similarity from which on two texts count as near duplicates, above 0.5</param>
    public NearDuplicates(string directory, double threshold)
    {
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(threshold, 0.5);
        (_bands, _threshold, _signatures) = (new DiskTable(directory), threshold, DiskTable.Nameless(directory));
    }

    /// <summary>The number (from 0, of the texts kept) of an earlier text that this one resembles, or -1; then this one is kept with the
    /// next number.</summary>
    public long Add(ReadOnlySpan<char> text)
    {
        var signature = MinHash.Of(text);
        Span<uint> other = stackalloc uint[MinHash.Size];
        Span<long> compared = stackalloc long[Bands];
        var met = 0;
        for (var band = 0; band < Bands; band++)
        {
            if (_bands.TryGet(Key(signature, band), out var candidate) && !compared[..met].Contains(candidate))
            {
                compared[met++] = candidate;
                if (RandomAccess.Read(_signatures, MemoryMarshal.AsBytes(other), candidate * SignatureBytes) != SignatureBytes)
                {
                    throw new IOException("the file of signatures is shorter than it was written");
                }

                if (MinHash.Similarity(signature, other) >= _threshold)
                {
                    return candidate;
                }
            }
        }

        RandomAccess.Write(_signatures, MemoryMarshal.AsBytes<uint>(signature), _count * SignatureBytes);
        for (var band = 0; band < Bands; band++)
        {
            _bands.TryAdd(Key(signature, band), _count);
        }

        _count++;
        return -1;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _bands.Dispose();
        _signatures.Dispose();
    }

    private static UInt128 Key(uint[] signature, int band)
    {
        var (high, low) = ((ulong)band, (ulong)band);
        foreach (var value in signature.AsSpan(band * Rows, Rows))
        {
            (high, low) = (SplitMix64.Mix(high + value), SplitMix64.Mix(low ^ (SplitMix64.Step * (value + 1UL))));
        }

        return new UInt128(high, low);
    }
}
