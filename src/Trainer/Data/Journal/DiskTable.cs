using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;

namespace Z1Coder.Trainer.Data.Journal;

/// <summary>
/// A hash table from 128-bit keys to numbers in a nameless file on disk: 24 bytes a slot, at most 60 % full, linear probing. What is
/// resident in this process does not grow with the number of keys (the kernel caches the file as it has room); the disk holds 40 to 80
/// bytes a key. The file has no name once it is open, so it goes with the process, however that ends. One thread at a time.
/// </summary>
public sealed class DiskTable : IDisposable
{
    private const int SlotBytes = 24;
    private const int ChunkSlots = 16;                   // read at once while probing: one system call is nearly always enough
    private const long FirstSlots = 1 << 12;

    private readonly string _directory;
    private SafeFileHandle _file;
    private long _slots;

    /// <summary>An empty table, its file in <paramref name="directory"/>.</summary>
    public DiskTable(string directory)
    {
        (_directory, _slots) = (directory, FirstSlots);
        _file = Create(directory, _slots);
    }

    /// <summary>Keys in the table.</summary>
    public long Count { get; private set; }

    /// <summary>Adds a key with a value; false, and nothing changes, when it is there already.</summary>
    /// <param name="key">any 128 bits</param>
    /// <param name="value">at least 0</param>
    public bool TryAdd(UInt128 key, long value = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(value);
        if (Find(_file, _slots, key, out var slot) >= 0)
        {
            return false;
        }

        if ((Count + 1) * 10 > _slots * 6)
        {
            Grow();
            _ = Find(_file, _slots, key, out slot);
        }

        Write(_file, slot, key, value);
        Count++;
        return true;
    }

    /// <summary>True when the key is there.</summary>
    public bool Contains(UInt128 key) => Find(_file, _slots, key, out _) >= 0;

    /// <summary>The value of a key; false when it is not there.</summary>
    public bool TryGet(UInt128 key, out long value)
    {
        value = Find(_file, _slots, key, out _);
        return value >= 0;
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    /// <summary>The value of <paramref name="key"/>, or -1 and the free slot where it belongs.</summary>
    private static long Find(SafeFileHandle file, long slots, UInt128 key, out long slot)
    {
        Span<byte> chunk = stackalloc byte[ChunkSlots * SlotBytes];
        slot = (long)((ulong)(key ^ (key >> 64)) & (ulong)(slots - 1));
        while (true)
        {
            var count = (int)Math.Min(ChunkSlots, slots - slot);
            var part = chunk[..(count * SlotBytes)];
            ReadExactly(file, part, slot * SlotBytes);
            for (var i = 0; i < count; i++, slot++)
            {
                var entry = part.Slice(i * SlotBytes, SlotBytes);
                var stored = BinaryPrimitives.ReadInt64LittleEndian(entry[16..]);
                if (stored == 0)
                {
                    return -1;
                }

                if (BinaryPrimitives.ReadUInt128LittleEndian(entry) == key)
                {
                    return stored - 1;
                }
            }

            slot &= slots - 1;
        }
    }

    // the value is stored plus one: an unwritten slot of the sparse file reads as zero
    private static void Write(SafeFileHandle file, long slot, UInt128 key, long value)
    {
        Span<byte> entry = stackalloc byte[SlotBytes];
        BinaryPrimitives.WriteUInt128LittleEndian(entry, key);
        BinaryPrimitives.WriteInt64LittleEndian(entry[16..], value + 1);
        RandomAccess.Write(file, entry, slot * SlotBytes);
    }

    private void Grow()
    {
        var slots = 4 * _slots;
        var bigger = Create(_directory, slots);
        var chunk = new byte[4096 * SlotBytes];
        for (long at = 0; at < _slots * SlotBytes; at += chunk.Length)
        {
            var part = chunk.AsSpan(0, (int)Math.Min(chunk.Length, (_slots * SlotBytes) - at));
            ReadExactly(_file, part, at);
            for (var i = 0; i < part.Length; i += SlotBytes)
            {
                var stored = BinaryPrimitives.ReadInt64LittleEndian(part[(i + 16)..]);
                if (stored != 0)
                {
                    var key = BinaryPrimitives.ReadUInt128LittleEndian(part[i..]);
                    _ = Find(bigger, slots, key, out var slot);
                    Write(bigger, slot, key, stored - 1);
                }
            }
        }

        _file.Dispose();
        (_file, _slots) = (bigger, slots);
    }

    private static void ReadExactly(SafeFileHandle file, Span<byte> bytes, long offset)
    {
        for (var read = 0; read < bytes.Length;)
        {
            var count = RandomAccess.Read(file, bytes[read..], offset + read);
            if (count == 0)
            {
                throw new IOException("the table's file is shorter than it was made");
            }

            read += count;
        }
    }

    /// <summary>An empty file that goes with its handle, however the process ends.</summary>
    internal static SafeFileHandle Nameless(string directory)
    {
        var path = Path.Combine(directory, $".z1-{Guid.NewGuid():N}.tmp");
        var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, FileOptions.RandomAccess);
        File.Delete(path);                              // Linux keeps an open file without a name
        return file;
    }

    private static SafeFileHandle Create(string directory, long slots)
    {
        var file = Nameless(directory);
        RandomAccess.SetLength(file, slots * SlotBytes);
        return file;
    }
}
